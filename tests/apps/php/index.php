<?php
// SPDX-License-Identifier: ISC
echo 'hello from php ' . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
