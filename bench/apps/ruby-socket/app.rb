require "socket"

TEXT = "@TEXT@\n"
server = TCPServer.new("0.0.0.0", ENV.fetch("PORT"))
loop do
  peer = server.accept
  nil while (line = peer.gets) && line != "\r\n"
  peer.write "HTTP/1.1 200 OK\r\nContent-Length: #{TEXT.bytesize}\r\nConnection: close\r\n\r\n#{TEXT}"
  peer.close
end
