// SPDX-License-Identifier: ISC
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

fn main() {
    let l = TcpListener::bind("0.0.0.0:8080").unwrap();
    for s in l.incoming() {
        let mut s = s.unwrap();
        thread::spawn(move || {
            let mut line = String::new();
            let mut r = BufReader::new(s.try_clone().unwrap());
            r.read_line(&mut line).unwrap();
            loop {
                let mut h = String::new();
                r.read_line(&mut h).unwrap();
                if h.trim().is_empty() {
                    break;
                }
            }
            let body = format!("hello from rust {}", line.split(' ').nth(1).unwrap_or("?"));
            write!(s, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", body.len(), body).unwrap();
        });
    }
}
