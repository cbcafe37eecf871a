(* SPDX-License-Identifier: ISC *)
let handle fd =
  let ic = Unix.in_channel_of_descr fd in
  let line = input_line ic in
  let path = match String.split_on_char ' ' line with _ :: p :: _ -> p | _ -> "?" in
  let body = "hello from ocaml " ^ path in
  let reply =
    Printf.sprintf "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
      (String.length body) body in
  ignore (Unix.write_substring fd reply 0 (String.length reply));
  Unix.shutdown fd Unix.SHUTDOWN_SEND;
  (try while input_char ic >= '\000' do () done with End_of_file -> ());
  Unix.close fd

let () =
  let s = Unix.socket Unix.PF_INET Unix.SOCK_STREAM 0 in
  Unix.setsockopt s Unix.SO_REUSEADDR true;
  Unix.bind s (Unix.ADDR_INET (Unix.inet_addr_any, 8080));
  Unix.listen s 16;
  while true do
    let fd, _ = Unix.accept s in
    ignore (Thread.create (fun fd -> try handle fd with _ -> ()) fd)
  done
