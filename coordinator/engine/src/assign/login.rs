//! With which secrets a target fetches what a body names.

use holdfast_protocol::image::Repository;
use holdfast_protocol::login::{Goal, Login};
use holdfast_protocol::name::ArtifactName;

use super::{RenderError, RenderRelease, Renderer, unset};
use crate::compiled::{Configuration, Credentials};

impl Renderer {
    /// With which secrets the artifacts are fetched that were not uploaded, and the images. A home on
    /// another host than the one that a secret is for is told nothing of it.
    pub(super) fn logins(&self, release: &RenderRelease) -> Result<Vec<Login>, RenderError> {
        let configuration = &*self.configuration;
        let mut logins = Vec::new();
        for (name, known) in &configuration.credentials {
            let Some(goal) = goal(configuration, release, (name, known)) else {
                continue;
            };
            if !known.is_set {
                return Err(unset(configuration, &known.secret));
            }
            let secret = known.secret.clone();
            logins.push(Login { goal, secret });
        }
        logins.sort();
        logins.dedup();
        one_each(&logins)?;
        Ok(logins)
    }
}

/// Whether nobody would have to choose between two secrets for one repository.
fn one_each(logins: &[Login]) -> Result<(), RenderError> {
    let doubled = logins.windows(2).find_map(|pair| match pair {
        [one, other] if one.goal == other.goal => Some((one, other)),
        _ => None,
    });
    doubled.map_or(Ok(()), |(one, other)| {
        Err(RenderError {
            field: "artifacts".to_owned(),
            message: format!(
                "images of one repository are to be pulled with {} and with {}",
                one.secret, other.secret
            ),
            help: Some("name the same secret in `credentials` of both artifacts".to_owned()),
        })
    })
}

/// What is fetched with credentials, if a release needs them.
fn goal(
    configuration: &Configuration,
    release: &RenderRelease,
    (name, known): (&ArtifactName, &Credentials),
) -> Option<Goal> {
    if let Some(repository) = configuration.images.get(name) {
        let repository = Repository::parse(repository).ok()?.to_string();
        return Some(Goal::Image { repository });
    }
    let (home, host) = (release.homes.get(name)?, known.host.clone());
    let is_told = host.as_ref().is_none_or(|host| home.is_at(host));
    let artifact = name.clone();
    is_told.then_some(Goal::File { artifact, host })
}
