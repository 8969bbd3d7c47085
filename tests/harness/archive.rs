//! Archives that tests release.

use flate2::Compression;
use flate2::write::GzEncoder;

/// A `tar.gz` of regular files: path, mode, content.
#[must_use]
pub fn tar_gz(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// A site of one page, with its version beside it.
#[must_use]
pub fn site(version: &str) -> Vec<u8> {
    tar_gz(&[
        (
            "index.html",
            0o644,
            format!("<h1>{version}</h1>\n").as_bytes(),
        ),
        ("VERSION", 0o644, format!("{version}\n").as_bytes()),
    ])
}
