-- SPDX-License-Identifier: ISC
module Main (main) where

import Control.Concurrent (forkIO)
import Control.Monad (forever, void)
import qualified Data.ByteString.Char8 as B
import Network.Socket
import Network.Socket.ByteString (recv, sendAll)

main :: IO ()
main = do
  s <- socket AF_INET Stream defaultProtocol
  setSocketOption s ReuseAddr 1
  bind s (SockAddrInet 8080 0)
  listen s 16
  forever $ do
    (c, _) <- accept s
    void $ forkIO $ do
      req <- recv c 4096
      let path = case B.words req of
            (_ : p : _) -> p
            _ -> B.pack "?"
          body = B.append (B.pack "hello from haskell ") path
      sendAll c (B.concat [B.pack "HTTP/1.1 200 OK\r\nContent-Length: ", B.pack (show (B.length body)),
                           B.pack "\r\nConnection: close\r\n\r\n", body])
      close c
