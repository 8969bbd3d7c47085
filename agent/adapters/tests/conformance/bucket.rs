//! What is particular to static services in object storage.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use holdfast_adapters::conformance::{self, Report, Subject as _};
use holdfast_adapters::failure::Failure;
use holdfast_adapters::run::{Adapter, Live, Wanted};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::runtime;
use crate::bench_bucket::{BUCKET, BucketBench, Server, Storage, ask};
use crate::table;

pub(crate) const TESTS: &[crate::Test] = &[
    ("object_storage_conforms", object_storage_conforms),
    (
        "clients_are_told_types_and_caching",
        clients_are_told_types_and_caching,
    ),
    (
        "only_what_changed_is_put_and_pages_that_went_go",
        only_what_changed_is_put,
    ),
    (
        "what_is_not_holdfasts_in_a_bucket_is_never_touched",
        what_is_not_ours_is_never_touched,
    ),
    (
        "a_site_that_moves_between_buckets_and_links_leaves_nothing",
        a_site_that_moves_leaves_nothing,
    ),
    (
        "storage_that_fails_or_goes_in_the_middle_is_taken_up_again",
        storage_that_fails_in_the_middle,
    ),
    (
        "twenty_thousand_files_are_put_once",
        twenty_thousand_files_are_put_once,
    ),
    (
        "a_destination_that_the_target_does_not_allow_is_refused",
        a_destination_not_allowed,
    ),
];

fn try_converge(adapter: &dyn Adapter, wanted: &Wanted) -> (Result<(), Failure>, Vec<String>) {
    let (progress, mut told) = mpsc::channel(64);
    let result = runtime().block_on(adapter.converge(wanted, &progress, &CancellationToken::new()));
    drop(progress);
    let mut said = Vec::new();
    while let Ok(line) = told.try_recv() {
        said.push(line);
    }
    (result, said)
}

fn converge(bench: &BucketBench, wanted: &Wanted) -> Vec<String> {
    let (result, said) = try_converge(bench.adapter().as_ref(), wanted);
    result.unwrap();
    said
}

fn live(bench: &BucketBench) -> Live {
    let mut all = runtime().block_on(bench.adapter().observe()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0).live
}

fn object_storage_conforms() {
    let mut benches = vec![BucketBench::folder("site"), BucketBench::folder("releases")];
    for layout in ["site", "releases"] {
        let server = Server::start("object_storage_conforms");
        benches.extend(server.map(|server| BucketBench::s3(layout, server)));
    }
    let runtime = runtime();
    let reports: Vec<Report> = benches
        .iter()
        .map(|bench| runtime.block_on(conformance::run(bench)))
        .collect();
    table::conform(&reports);
}

fn clients_are_told_types_and_caching() {
    let Some(server) = Server::start("clients_are_told_types_and_caching") else {
        return;
    };
    let address = server.address;
    let bench = BucketBench::s3("site", server);
    let told = |key: &str| {
        let path = format!("/{BUCKET}/sites/site/{key}");
        ask(address, "HEAD", &path, "").unwrap().1.to_lowercase()
    };
    let files = [
        ("index.html", "page"),
        ("assets/app-1f2e.js", "code"),
        ("data/table.own", "1,2"),
        ("[id]/a b~ü.txt", "odd"),
    ];
    let more = json!({"cache": {"assets/**": "public, max-age=31536000, immutable",
        "*.html": "no-cache"}, "types": {"*.own": "text/x-own"}});
    let said = converge(&bench, &bench.site("site", &files, &more));
    assert!(
        said.iter().any(|line| line.starts_with("put 4 objects")),
        "{said:?}"
    );
    assert!(told("index.html").contains("cache-control: no-cache"));
    assert!(told("index.html").contains("content-type: text/html; charset=utf-8"));
    let script = told("assets/app-1f2e.js");
    assert!(
        script.contains("immutable") && script.contains("text/javascript"),
        "{script}"
    );
    assert!(told("data/table.own").contains("text/x-own"));
    assert!(!told("data/table.own").contains("cache-control"));
    assert_eq!(
        bench.object("site", "%5Bid%5D/a%20b~%C3%BC.txt").as_deref(),
        Some("odd")
    );
    assert!(
        matches!(live(&bench), Live::Running { .. }),
        "{:?}",
        live(&bench)
    );
    // Another word for clients is a change of those objects alone.
    let more = json!({"cache": {"*.html": "max-age=60"}, "types": {"*.own": "text/x-own"}});
    let said = converge(&bench, &bench.site("site", &files, &more));
    assert!(
        said.iter().any(|line| line.starts_with("put 2 objects")),
        "{said:?}"
    );
    assert!(told("index.html").contains("max-age=60"));
}

fn only_what_changed_is_put() {
    let bench = BucketBench::folder("site");
    let release = |n: u32| {
        let (page, name) = (format!("release {n}"), format!("assets/{n}.js"));
        let old = format!("page-{n}.html");
        let files = [
            ("index.html", page.as_str()),
            (name.as_str(), "x"),
            (old.as_str(), "y"),
            ("same.css", "z"),
        ];
        bench.site("site", &files, &json!({}))
    };
    converge(&bench, &release(1));
    let said = converge(&bench, &release(2));
    assert!(
        said.iter()
            .any(|line| line.contains("put 3 objects") && line.contains("1 were there")),
        "{said:?}"
    );
    let own = |keys: Vec<String>| -> Vec<String> {
        keys.into_iter()
            .filter(|key| !key.starts_with(".holdfast"))
            .collect()
    };
    // What open pages of the release before still need stays; its own pages do not.
    assert_eq!(
        own(bench.keys("site")),
        [
            "assets/1.js",
            "assets/2.js",
            "index.html",
            "page-2.html",
            "same.css"
        ]
    );
    converge(&bench, &release(3));
    assert_eq!(
        own(bench.keys("site")),
        [
            "assets/2.js",
            "assets/3.js",
            "index.html",
            "page-3.html",
            "same.css"
        ]
    );
    let lists = bench
        .keys("site")
        .iter()
        .filter(|key| key.ends_with(".list"))
        .count();
    assert_eq!(lists, 2);
    // Back again: what is still there is not put.
    let said = converge(&bench, &release(2));
    assert!(
        said.iter()
            .any(|line| line.contains("put 2 objects") && line.contains("2 were there")),
        "{said:?}"
    );
    // The same again asks for nothing.
    assert_eq!(converge(&bench, &release(2)), Vec::<String>::new());
}

fn what_is_not_ours_is_never_touched() {
    let bench = BucketBench::folder("site");
    bench.meddle("site", "mine.txt", Some("precious")).unwrap();
    let refused =
        |wanted: &Wanted, word: &str| match try_converge(bench.adapter().as_ref(), wanted).0 {
            Err(Failure::Permanent(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{other:?}"),
        };
    refused(&bench.release("site", 1), "mine.txt is there");
    assert_eq!(bench.keys("site"), ["mine.txt"]);
    bench.meddle("site", "mine.txt", None).unwrap();
    converge(&bench, &bench.release("site", 1));
    // Somebody else's object below the prefix is no drift, and stays when all else goes.
    bench.meddle("site", "mine.txt", Some("precious")).unwrap();
    assert!(matches!(live(&bench), Live::Running { .. }));
    converge(&bench, &bench.release("site", 2));
    // Another target, and another service, are told whose it is.
    let other = bench.adapter_of("test/b");
    match try_converge(other.as_ref(), &bench.release("site", 2)).0 {
        Err(Failure::Permanent(why)) => assert!(why.contains("belongs to target test/a"), "{why}"),
        other => panic!("{other:?}"),
    }
    let more = json!({"destination": bench.destination("site")});
    refused(
        &bench.site("second", &[("index.html", "x")], &more),
        "belongs to service site",
    );
    runtime()
        .block_on(bench.adapter().remove(&"site".parse().unwrap()))
        .unwrap();
    assert_eq!(bench.keys("site"), ["mine.txt"]);
    assert!(
        runtime()
            .block_on(bench.adapter().observe())
            .unwrap()
            .is_empty()
    );
}

fn a_site_that_moves_leaves_nothing() {
    let bench = BucketBench::folder("site");
    converge(&bench, &bench.release("site", 1));
    let elsewhere = json!({"destination": bench.destination("elsewhere")});
    converge(
        &bench,
        &bench.site("site", &[("index.html", "release 2")], &elsewhere),
    );
    assert!(bench.keys("site").is_empty() && !bench.home.path().join("bucket/site").exists());
    assert_eq!(
        bench.object("elsewhere", "index.html").as_deref(),
        Some("release 2")
    );
    let link = bench.home.path().join("www/site");
    std::fs::create_dir(bench.home.path().join("www")).unwrap();
    let behind = json!({"destination": null, "layout": null, "path": &link});
    converge(
        &bench,
        &bench.site("site", &[("index.html", "release 3")], &behind),
    );
    assert!(bench.keys("elsewhere").is_empty());
    assert_eq!(
        std::fs::read_to_string(link.join("index.html")).unwrap(),
        "release 3"
    );
    converge(&bench, &bench.release("site", 4));
    assert!(!link.exists());
    assert!(matches!(live(&bench), Live::Running { .. }));
}

fn storage_that_fails_in_the_middle() {
    let Some(server) = Server::start("storage_that_fails_or_goes_in_the_middle_is_taken_up_again")
    else {
        return;
    };
    let gate = Gate::start(server.address);
    let mut bench = BucketBench::s3("site", server);
    bench.endpoint = Some(gate.address);
    let many: Vec<(String, String)> = (0..600)
        .map(|n| (format!("f/{n}.txt"), n.to_string()))
        .collect();
    let files = |page: &'static str| {
        let mut files: Vec<(&str, &str)> = many
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        files.push(("index.html", page));
        files
    };
    converge(
        &bench,
        &bench.site("site", &[("index.html", "release 1")], &json!({})),
    );
    let second = bench.site("site", &files("release 2"), &json!({}));
    for manner in [Manner::Broken, Manner::Gone] {
        gate.after(150, manner);
        let begun = Instant::now();
        let (result, _) = try_converge(bench.adapter().as_ref(), &second);
        println!("{manner:?}: given up after {:?}", begun.elapsed());
        match result {
            Err(Failure::Retryable(why)) => assert!(!why.contains("hunter2"), "{why}"),
            other => panic!("{other:?}"),
        }
        // Visitors still find the release before.
        assert_eq!(
            bench.object("site", "index.html").as_deref(),
            Some("release 1")
        );
        let seen = live(&bench);
        assert!(
            matches!(&seen, Live::Unready { why, .. } if why.contains("not known")),
            "{seen:?}"
        );
        gate.after(0, Manner::Honest);
        let seen = live(&bench);
        assert!(
            matches!(&seen, Live::Altered { what } if what.contains("in part")),
            "{seen:?}"
        );
    }
    let (result, said) = try_converge(bench.adapter().as_ref(), &second);
    result.unwrap();
    // Twice 150 requests went through, and what they put was not put again.
    let last = said.last().unwrap();
    let put: usize = last.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1..=500).contains(&put), "{last}");
    assert_eq!(
        bench.object("site", "index.html").as_deref(),
        Some("release 2")
    );
    assert!(matches!(live(&bench), Live::Running { .. }));
}

fn twenty_thousand_files_are_put_once() {
    let mut benches = vec![BucketBench::folder("site")];
    let server = Server::start("twenty_thousand_files_are_put_once");
    benches.extend(server.map(|server| BucketBench::s3("site", server)));
    for bench in benches {
        // A server in Python takes a few milliseconds for each.
        let count = match bench.storage {
            Storage::Folder => 20_000,
            Storage::S3(_) => 2_500,
        };
        let files: Vec<(String, String)> = (0..count)
            .map(|n| (format!("d{}/{n}.txt", n % 100), format!("file {n}")))
            .collect();
        let mut files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        files.push(("index.html", "release 1"));
        let measured = |wanted: &Wanted, put: usize| {
            let begun = Instant::now();
            let said = converge(&bench, wanted);
            let expected = format!("put {put} objects");
            assert!(said.last().unwrap().starts_with(&expected), "{said:?}");
            println!(
                "{}: {} files, {}: {:?}",
                bench.name(),
                files.len(),
                said.last().unwrap(),
                begun.elapsed()
            );
        };
        let first = bench.site("site", &files, &json!({}));
        measured(&first, count + 1);
        let begun = Instant::now();
        assert!(matches!(live(&bench), Live::Running { .. }));
        println!("{}: a first look: {:?}", bench.name(), begun.elapsed());
        let mut files = files.clone();
        *files.last_mut().unwrap() = ("index.html", "release 2");
        measured(&bench.site("site", &files, &json!({})), 1);
        let begun = Instant::now();
        runtime()
            .block_on(bench.adapter().remove(&"site".parse().unwrap()))
            .unwrap();
        println!("{}: removed in {:?}", bench.name(), begun.elapsed());
        assert!(bench.keys("site").is_empty());
    }
}

fn a_destination_not_allowed() {
    let bench = BucketBench::folder("site");
    let mut settings = bench.settings("test/a");
    settings.object_store.destinations = vec!["s3://team-web/sites".parse_destination()];
    let all =
        holdfast_adapters::run::adapters_with(&bench.home.agent(), Vec::new(), settings).unwrap();
    let adapter = all
        .into_iter()
        .find(|adapter| adapter.runtime() == "static")
        .unwrap();
    match try_converge(adapter.as_ref(), &bench.release("site", 1)).0 {
        Err(Failure::Permanent(why)) => assert!(why.contains("agent.toml allows"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(bench.keys("site").is_empty());
}

trait ParseDestination {
    fn parse_destination(&self) -> holdfast_adapters::static_files::destination::Destination;
}

impl ParseDestination for str {
    fn parse_destination(&self) -> holdfast_adapters::static_files::destination::Destination {
        holdfast_adapters::static_files::destination::Destination::parse(self).unwrap()
    }
}

/// How storage behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Every request is answered with status 500.
    Broken,
    /// Nobody listens.
    Gone,
}

/// A socket in front of a server, which turns bad after some requests.
struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Requests until `then`.
    left: usize,
    then: Manner,
    open: Vec<TcpStream>,
}

impl Gate {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            left: 0,
            then: Manner::Honest,
            open: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(client.unwrap(), server, &shared));
            }
        });
        Self { address, state }
    }

    /// After so many more requests it behaves like this; who is connected has to come again.
    fn after(&self, left: usize, then: Manner) {
        let mut state = self.state.lock().unwrap();
        (state.left, state.then) = (left, then);
        for open in state.open.drain(..) {
            let _ = open.shutdown(Shutdown::Both);
        }
    }
}

/// One request a connection: each answer is followed by its end.
fn serve(mut client: TcpStream, server: SocketAddr, state: &Mutex<State>) {
    let manner = {
        let mut state = state.lock().unwrap();
        state.open.push(client.try_clone().unwrap());
        match state.left {
            0 => state.then,
            left => {
                state.left = left - 1;
                Manner::Honest
            }
        }
    };
    match manner {
        Manner::Honest => hand_on(client, server),
        Manner::Broken => {
            let mut head = [0; 16 << 10];
            let _ = client.read(&mut head);
            let answer = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = client.write_all(answer.as_bytes());
        }
        Manner::Gone => drop(client.shutdown(Shutdown::Both)),
    }
}

/// The first request is handed on, and the server told that no other follows: so each is counted.
fn hand_on(mut client: TcpStream, server: SocketAddr) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return,
        }
    }
    head.truncate(head.len() - 2);
    head.extend(b"connection: close\r\n\r\n");
    let Ok(mut real) = TcpStream::connect(server) else {
        return;
    };
    if real.write_all(&head).is_err() {
        return;
    }
    let (mut from, mut to) = (client.try_clone().unwrap(), real.try_clone().unwrap());
    let up = std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
    let (mut from, mut to) = (real, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = up.join();
}
