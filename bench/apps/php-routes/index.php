<?php
require __DIR__ . "/src/pages.php";
header("Content-Type: text/plain");
$page = pages()[parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH)] ?? null;
if ($page === null)
	http_response_code(404);
echo $page ?? "no such page", "\n";
