"""HTTP/2 from the server's side: frames, header blocks and one connection, without a socket."""
