//! A proxy as companies have them: it connects clients to hosts that only it can find, and writes down which.

use super::lock;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The longest request that is read.
const LONGEST: u64 = 16 << 10;

/// A running proxy, stopped when dropped. Whatever host is asked for, it connects to one server.
pub struct Proxy {
    /// Its address.
    pub url: String,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts one in front of the server at an address.
    ///
    /// # Panics
    /// When the machine has no port left.
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (asked, stopped) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (asks, stops) = (Arc::clone(&asked), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                let asks = Arc::clone(&asks);
                std::thread::spawn(move || serve(stream, server, &asks));
            }
        });
        Self { url: format!("http://127.0.0.1:{}", address.port()), address, asked, stopped }
    }

    /// The hosts and ports that it was asked to connect to.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: TcpStream, server: SocketAddr, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?.take(LONGEST));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = first.clone();
    while !line.trim().is_empty() {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            break;
        }
    }
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    lock(asked).push(target.to_owned());
    let mut to_client = client.try_clone()?;
    if method != "CONNECT" {
        return to_client.write_all(b"HTTP/1.1 405 X\r\nContent-Length: 0\r\n\r\n");
    }
    let upstream = TcpStream::connect(server)?;
    to_client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let mut to_server = upstream.try_clone()?;
    // What came with the request is the beginning of what the client has to say.
    to_server.write_all(reader.buffer())?;
    let mut from_client = client;
    let relay = std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let mut from_server = upstream;
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = relay.join();
    Ok(())
}
