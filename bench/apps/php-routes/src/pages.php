<?php
function pages() { return ["/" => "@TEXT@", "/number" => "@N@", "/about" => "@FILL:600@"]; }
