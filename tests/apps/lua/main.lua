-- SPDX-License-Identifier: ISC
local socket = require("socket")
local s = assert(socket.bind("*", 8080))
while true do
  local c = s:accept()
  local line = c:receive("*l") or ""
  repeat local h = c:receive("*l") until not h or h == ""
  local body = "hello from lua " .. (line:match("^%S+ (%S+)") or "?")
  c:send("HTTP/1.1 200 OK\r\nContent-Length: " .. #body .. "\r\nConnection: close\r\n\r\n" .. body)
  c:close()
end
