//! The test server as a program: says on one line of JSON where it is and what it has, and ends with its input.
#![allow(clippy::print_stdout)]

use harness::infisical::{CLIENT_ID, CLIENT_SECRET, Item, PROJECT_ID, PROJECT_SLUG, Server};
use std::io::{Read, stdin};
use std::path::Path;

fn main() {
    let ca_file = std::env::args_os().nth(1);
    let server = match &ca_file {
        Some(path) => Server::start_tls(Path::new(path)),
        None => Server::start(),
    };
    furnish(&server);
    let says = serde_json::json!({
        "url": server.url, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET,
        "projectId": PROJECT_ID, "projectSlug": PROJECT_SLUG,
    });
    println!("{says}");
    // The end of the input is the end of whoever started us.
    let _ = stdin().read_to_end(&mut Vec::new());
}

/// One of everything that a client may meet.
fn furnish(server: &Server) {
    let mut world = server.world();
    world.set("dev", "/", "PLAIN", "plain value");
    world.set(
        "dev",
        "/",
        "LINES",
        "-----BEGIN-----\nline two\r\n\ttab \"quote\" $HOME `id`\n-----END-----\n",
    );
    world.set("dev", "/", "UNICODE", "grüße ☃ 𝄞");
    world.set("dev", "/", "EMPTY", "");
    world.set("dev", "/", "REFERRING", "to ${PLAIN} and ${dev.folder.inner.DEEP}");
    world.put("dev", "/", "SECRET", Item { value: "x".into(), hidden: true, ..Item::default() });
    world.put(
        "dev",
        "/",
        "TAGGED",
        Item { value: "tagged".into(), tags: vec!["red".into()], ..Item::default() },
    );
    world.set("dev", "/folder", "IN_FOLDER", "one down");
    world.set("dev", "/folder/inner", "DEEP", "two down");
    world.set("dev", "/shared-one", "IMPORTED", "earlier");
    world.set("dev", "/shared-two", "IMPORTED", "later");
    world.set("dev", "/shared-two", "PLAIN", "imported, and shadowed");
    world.import(("dev", "/"), ("dev", "/shared-one"));
    world.import(("dev", "/"), ("dev", "/shared-two"));
}
