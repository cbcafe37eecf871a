<?php // SPDX-License-Identifier: ISC
echo "Hello from PHP ", PHP_VERSION, "\n";
