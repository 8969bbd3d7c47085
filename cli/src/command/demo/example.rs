//! What the demo deploys: the very files of `examples/first`.

use flate2::Compression;
use flate2::write::GzEncoder;
use holdfast_protocol::api::apply::ManifestFile;

use crate::error::Failure;

/// Where the example's manifests put the sites, when used by hand.
const ROOT: &str = "/tmp/holdfast-first";
const ENVIRONMENTS: &str = include_str!("../../../../examples/first/manifests/environments.yaml");
const SERVICES: &str = include_str!("../../../../examples/first/manifests/services.yaml");
const PAGE: &str = include_str!("../../../../examples/first/site/index.html");
const STYLE: &str = include_str!("../../../../examples/first/site/style.css");

/// The example's manifests, with the sites below `root`.
pub(super) fn manifests(root: &str) -> Vec<ManifestFile> {
    [
        ("environments.yaml", ENVIRONMENTS),
        ("services.yaml", SERVICES),
    ]
    .into_iter()
    .map(|(name, content)| ManifestFile {
        path: format!("examples/first/manifests/{name}"),
        content: content.replace(ROOT, root),
    })
    .collect()
}

/// The site as an archive (`tar.gz`), whole.
pub(super) fn site(version: &str) -> Result<Vec<u8>, Failure> {
    let version = format!("{version}\n");
    pack(&[
        ("VERSION", &version),
        ("index.html", PAGE),
        ("style.css", STYLE),
    ])
}

/// The site as somebody packed it who forgot the start page.
pub(super) fn broken_site(version: &str) -> Result<Vec<u8>, Failure> {
    let version = format!("{version}\n");
    pack(&[("VERSION", &version), ("style.css", STYLE)])
}

fn pack(files: &[(&str, &str)]) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::failed(format!("cannot pack the site: {error}"));
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content.as_bytes())
            .map_err(failed)?;
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_moves_the_sites_of_the_example_and_changes_nothing_else() {
        let moved = manifests("/elsewhere");
        assert_eq!(moved.len(), 2);
        let all: String = moved.iter().map(|file| file.content.as_str()).collect();
        assert!(!all.contains(ROOT));
        assert!(all.matches("/elsewhere").count() == 2);
        assert_eq!(
            all.replace("/elsewhere", ROOT),
            format!("{ENVIRONMENTS}{SERVICES}")
        );
    }

    #[test]
    fn the_same_site_packs_to_the_same_bytes_and_the_broken_one_lacks_its_page() {
        assert_eq!(site("1.0.0").unwrap(), site("1.0.0").unwrap());
        let names = |bytes: Vec<u8>| -> Vec<String> {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
            archive
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                .collect()
        };
        assert_eq!(
            names(site("1").unwrap()),
            ["VERSION", "index.html", "style.css"]
        );
        assert_eq!(names(broken_site("2").unwrap()), ["VERSION", "style.css"]);
    }
}
