//! A real Prometheus server, as Debian packages it.

use std::path::Path;

use crate::port::Port;
use crate::program::Program;

/// A Prometheus server on loopback, which ends with this.
#[derive(Debug)]
pub struct Prometheus {
    /// Where it answers.
    pub url: String,
    _program: Program,
    _port: Port,
}

impl Prometheus {
    /// Starts one with this configuration. What it keeps, and its log, go below `folder`.
    #[must_use]
    pub fn start(config: &Path, folder: &Path) -> Self {
        Self::start_on(Port::free(), config, folder)
    }

    /// The same on a port that was chosen before.
    #[must_use]
    pub fn start_on(port: Port, config: &Path, folder: &Path) -> Self {
        let address = format!("127.0.0.1:{}", port.number());
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--web.listen-address={address}"),
            format!("--storage.tsdb.path={}/prometheus-data", folder.display()),
        ];
        let program = Program::new("prometheus", "prometheus".into(), arguments, &[], folder);
        program.start();
        Self {
            url: format!("http://{address}"),
            _program: program,
            _port: port,
        }
    }
}
