//! Join tokens.

use holdfast_certs::token::Token as JoinToken;
use holdfast_protocol::api::Code;
use holdfast_protocol::api::token::{CreatedToken, NewToken, Token};
use holdfast_protocol::name::{LabelKey, LabelValue};
use holdfast_protocol::time::parse_span;

use super::Round;
use crate::event::Refused;
use crate::history::Entry;
use crate::store::row;
use crate::store::write::Write;

/// Longest life of a token.
const TTL_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
/// Most targets that one token may let in.
const USES_MAX: u32 = 100_000;
/// Most labels that a token may give.
const LABELS_MAX: usize = 64;

impl Round<'_> {
    /// Makes a token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Refused`] for a life or a number of uses out of bounds, or a label that is none.
    pub fn create_token(&mut self, new: &NewToken, by: &str) -> Result<CreatedToken, Refused> {
        let wrong = |message: String| Refused::new(Code::BadRequest, message);
        let ttl = parse_span(&new.ttl).map_err(wrong)?;
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(wrong(format!(
                "a token lives for at most 24h, not {}",
                new.ttl
            )));
        }
        if new.uses == 0 || new.uses > USES_MAX {
            return Err(wrong(format!(
                "a token has 1 to {USES_MAX} uses, not {}",
                new.uses
            )));
        }
        if new.labels.len() > LABELS_MAX {
            return Err(wrong(format!("a token gives at most {LABELS_MAX} labels")));
        }
        for (key, value) in &new.labels {
            LabelKey::parse(key).map_err(|error| wrong(error.to_string()))?;
            LabelValue::parse(value).map_err(|error| wrong(error.to_string()))?;
        }
        self.ensure_environment(&new.environment)?;
        let token = JoinToken::generate(self.world.trust.root.pin())
            .map_err(|error| Refused::new(Code::Internal, error.to_string()))?;
        let about = Token {
            id: token.id().to_string(),
            environment: new.environment.clone(),
            labels: new.labels.clone(),
            uses: new.uses,
            used: 0,
            created_at: self.now,
            created_by: by.to_owned(),
            expires_at: self.now.after(ttl),
            revoked: false,
        };
        self.keep_token(row::Token {
            secret_hash: token.secret_hash(),
            about: about.clone(),
        });
        self.record(Entry {
            kind: "token.created",
            actor: Some(by.to_owned()),
            message: format!("join token {} for {}", about.id, about.environment),
            environment: Some(about.environment.clone()),
            ..Entry::default()
        });
        Ok(CreatedToken {
            token: token.reveal().to_string(),
            about,
        })
    }

    /// Makes a token void.
    ///
    /// # Errors
    /// [`Refused`] when there is no such token.
    pub fn revoke_token(&mut self, id: &str, by: &str) -> Result<Token, Refused> {
        let Some(mut token) = self.world.tokens.get(id).cloned() else {
            return Err(Refused::new(Code::NotFound, format!("no join token {id}"))
                .help("list them: holdfast token list"));
        };
        if token.about.revoked {
            return Ok(token.about);
        }
        token.about.revoked = true;
        let about = token.about.clone();
        self.keep_token(token);
        self.record(Entry {
            kind: "token.revoked",
            actor: Some(by.to_owned()),
            message: format!("join token {id} is void"),
            environment: Some(about.environment.clone()),
            ..Entry::default()
        });
        Ok(about)
    }

    pub(super) fn keep_token(&mut self, token: row::Token) {
        self.writes.push(Write::Token(token.clone()));
        self.world.tokens.insert(token.about.id.clone(), token);
    }
}
