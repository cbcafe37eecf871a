local socket = require("socket")
local text = "@TEXT@\n"
local server = assert(socket.bind("*", os.getenv("PORT")))

while true do
  local peer = server:accept()
  repeat
    local line = peer:receive("*l")
  until not line or line == ""
  peer:send("HTTP/1.1 200 OK\r\nContent-Length: " .. #text .. "\r\nConnection: close\r\n\r\n" .. text)
  peer:close()
end
