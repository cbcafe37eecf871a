# SPDX-License-Identifier: ISC
require 'webrick'
s = WEBrick::HTTPServer.new(Port: 8080, AccessLog: [])
s.mount_proc('/') { |req, res| res.body = "hello from ruby #{req.path}" }
trap('TERM') { s.shutdown }
s.start
