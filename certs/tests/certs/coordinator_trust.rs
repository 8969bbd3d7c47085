//! Which servers an agent takes for its coordinator, and that nothing is said to any other.

use std::io::Write as _;
use std::sync::Arc;

use holdfast_certs::authority::{Root, SERVER_VALIDITY};
use holdfast_certs::clock::Clock;
use holdfast_certs::identity::TrustDomain;
use holdfast_certs::tls::{self, CurrentLeaf};
use holdfast_protocol::version::{ALPN_CONTROL, ALPN_JOIN, COORDINATOR_NAME};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::handshake::{Broken, Pair};
use crate::world::{World, dns, forge, stolen};

/// What would be said to a coordinator first.
const SECRET: &[u8] = b"the secret of a join token";

/// A server that presents whatever it is given.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn impostor(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider.key_provider.load_private_key(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Impostor(Arc::new(CertifiedKey::new(chain, key)))));
    config.alpn_protocols = vec![ALPN_CONTROL.to_vec(), ALPN_JOIN.to_vec()];
    Arc::new(config)
}

/// The certificate of a coordinator, as whoever holds `issuer` would make it.
fn coordinator_params(world: &World) -> CertificateParams {
    let mut params = world.honest_params();
    params.subject_alt_names = vec![dns(COORDINATOR_NAME)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn joining(world: &World) -> Arc<ClientConfig> {
    Arc::new(tls::join_client_config(world.root.pin(), Arc::new(Clock::default())).unwrap())
}

fn joined(world: &World) -> Arc<ClientConfig> {
    let web = world.target("web-1");
    let roots = vec![world.root.certificate().clone()];
    let clock = Arc::new(Clock::default());
    Arc::new(tls::control_client_config(web.issued.chain, &web.key, roots, clock).unwrap())
}

/// The secret is ready to be sent as soon as TLS allows. What does the server learn?
fn learns(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Vec<u8>, Vec<u8>> {
    let mut pair = Pair::new(client, server);
    pair.client.writer().write_all(SECRET).unwrap();
    match pair.run() {
        Ok(()) => Ok(pair.received()),
        Err(Broken::Client(error)) => {
            assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
            assert!(pair.client.is_handshaking());
            // What the client still sends is its alert; nothing else follows.
            let rest = pair.run();
            assert!(matches!(rest, Err(Broken::Server(_))), "{rest:?}");
            Err(pair.received())
        }
        Err(Broken::Server(error)) => unreachable!("the impostor gave up: {error}"),
    }
}

fn now() -> World {
    World::at(Clock::default().now())
}

#[test]
fn the_right_coordinator_is_told_the_secret() {
    let world = now();
    let (leaf, key) = forge(&coordinator_params(&world), &stolen(&world.root.to_pem()));
    let server = impostor(vec![leaf, world.root.certificate().clone()], &key);
    // The same server as the impostors below, with the real root's signature: so each of them is
    // refused for what it lacks.
    assert_eq!(learns(&joining(&world), &server).unwrap(), SECRET);
    assert_eq!(learns(&joined(&world), &server).unwrap(), SECRET);
}

#[test]
fn a_coordinator_under_another_root_is_told_nothing() {
    let world = now();
    let domain: TrustDomain = world.root.trust_domain().clone();
    let other = Root::create(domain, world.now).unwrap();
    let (leaf, key) = forge(&coordinator_params(&world), &stolen(&other.to_pem()));
    for others in [
        vec![],
        vec![other.certificate().clone()],
        // The real root is public: presenting it beside one's own proves nothing.
        vec![world.root.certificate().clone()],
        vec![
            other.certificate().clone(),
            world.root.certificate().clone(),
        ],
    ] {
        let server = impostor([vec![leaf.clone()], others].concat(), &key);
        assert_eq!(learns(&joining(&world), &server), Err(vec![]));
        assert_eq!(learns(&joined(&world), &server), Err(vec![]));
    }
}

#[test]
fn a_copied_certificate_without_its_key_is_told_nothing() {
    let world = now();
    let copied = world.server_leaf().chain;
    let server = impostor(copied, &KeyPair::generate().unwrap());
    assert_eq!(learns(&joining(&world), &server), Err(vec![]));
    assert_eq!(learns(&joined(&world), &server), Err(vec![]));
}

#[test]
fn a_target_cannot_pass_for_a_coordinator() {
    let world = now();
    let web = world.target("web-1");
    let chain = [web.issued.chain, vec![world.root.certificate().clone()]].concat();
    let server = impostor(chain, &KeyPair::from_pem(&web.key.to_pem()).unwrap());
    assert_eq!(learns(&joining(&world), &server), Err(vec![]));
    assert_eq!(learns(&joined(&world), &server), Err(vec![]));
}

#[test]
fn an_environments_authority_cannot_make_a_coordinator() {
    let world = now();
    let (leaf, key) = forge(
        &coordinator_params(&world),
        &stolen(&world.staging.to_pem()),
    );
    let chain = vec![
        leaf,
        world.staging.certificate().clone(),
        world.root.certificate().clone(),
    ];
    let server = impostor(chain, &key);
    assert_eq!(learns(&joining(&world), &server), Err(vec![]));
    assert_eq!(learns(&joined(&world), &server), Err(vec![]));
}

#[test]
fn a_server_without_the_usage_or_the_name_of_a_coordinator_is_told_nothing() {
    let world = now();
    let root = stolen(&world.root.to_pem());
    let mut unlimited = coordinator_params(&world);
    unlimited.extended_key_usages = vec![];
    let mut client = coordinator_params(&world);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut elsewhere = coordinator_params(&world);
    elsewhere.subject_alt_names = vec![dns("localhost"), dns("coordinator.example.com")];
    let mut expired = coordinator_params(&world);
    expired.not_after = expired.not_before;
    for params in [unlimited, client, elsewhere, expired] {
        let (leaf, key) = forge(&params, &root);
        let server = impostor(vec![leaf, world.root.certificate().clone()], &key);
        assert_eq!(learns(&joining(&world), &server), Err(vec![]));
        assert_eq!(learns(&joined(&world), &server), Err(vec![]));
    }
}

/// A client of the API as others write it: the root's certificate and the library's own verifier.
fn api_client(world: &World) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(world.root.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The API's server with the coordinator's certificate for these hosts.
fn api_server(world: &World, hosts: &[&str]) -> Arc<ServerConfig> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let leaf = world
        .root
        .server_leaf(&hosts, world.now, SERVER_VALIDITY)
        .unwrap();
    let leaf = CurrentLeaf::new(leaf).unwrap();
    Arc::new(tls::api_server_config(leaf, Arc::new(Clock::default())).unwrap())
}

#[test]
fn the_api_is_reached_by_any_of_its_names_with_the_root_alone() {
    let world = now();
    let server = api_server(&world, &["deploy.example.com", "10.1.2.3"]);
    let hosts = [
        "localhost",
        "127.0.0.1",
        "::1",
        "deploy.example.com",
        "10.1.2.3",
    ];
    for host in hosts {
        Pair::dial(host, &api_client(&world), &server)
            .run()
            .unwrap();
    }
    for host in ["example.com", "10.1.2.4"] {
        let broken = Pair::dial(host, &api_client(&world), &server)
            .run()
            .unwrap_err();
        assert!(
            matches!(broken, Broken::Client(Error::InvalidCertificate(_))),
            "{broken:?}"
        );
    }
}

#[test]
fn an_environments_authority_cannot_pass_for_the_api() {
    let world = now();
    for (authority, allowed) in [(world.root.to_pem(), true), (world.staging.to_pem(), false)] {
        let mut params = coordinator_params(&world);
        params.subject_alt_names = vec![dns("localhost")];
        let (leaf, key) = forge(&params, &stolen(&authority));
        let chain = vec![leaf, world.staging.certificate().clone()];
        let answer = Pair::dial("localhost", &api_client(&world), &impostor(chain, &key)).run();
        assert_eq!(answer.is_ok(), allowed, "{answer:?}");
    }
}
