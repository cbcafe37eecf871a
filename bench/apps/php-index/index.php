<?php
header("Content-Type: text/plain");
echo "@TEXT@\n";
