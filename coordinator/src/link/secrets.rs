//! Secrets for targets: each sealed to the key of the target that asks, and only of its own environment.

use holdfast_protocol::frame;
use holdfast_protocol::secret::{Sealed, SecretRef};
use holdfast_protocol::stream::SecretReply;
use quinn::SendStream;

use super::Context;
use super::artifacts::{Asker, answer, arrived, offend};
use crate::world::secret::{Sealing, Withheld};

/// Answers one request. A target is given the secrets of its own assignment; asking for one that its
/// environment does not know is an offence, and the answer is the same.
pub async fn serve(context: &Context, asker: Asker, which: &SecretRef, mut send: SendStream) {
    let (target, asked) = (asker.target.clone(), which.clone());
    let found = context
        .driver
        .ask(move |world| world.sealing_for(&target, &asked));
    let (reply, strange) = match found.await {
        Ok(Ok(sealing)) => (sealed(&asker, which, &sealing), false),
        Ok(Err(withheld)) => (SecretReply::Unavailable, withheld == Withheld::Strange),
        // The coordinator stops.
        Err(_) => (SecretReply::Unavailable, false),
    };
    answer(&mut send, frame::encode(&reply)).await;
    if strange {
        arrived(&send).await;
        let what = format!("asked for the secret {which}, which its assignment does not name");
        offend(context, asker, &what).await;
    }
}

fn sealed(asker: &Asker, which: &SecretRef, sealing: &Sealing) -> SecretReply {
    match seal(which, sealing) {
        Ok(sealed) => SecretReply::Sealed(sealed),
        Err(error) => {
            tracing::error!(target = %asker.target, secret = %which, error, "not sealed");
            SecretReply::Unavailable
        }
    }
}

/// The value is in the clear for as long as this takes.
fn seal(which: &SecretRef, sealing: &Sealing) -> Result<Sealed, String> {
    let Sealing {
        vault,
        value,
        closed,
        owner,
        key,
    } = sealing;
    let opened = vault.open(&owner.environment, value, closed);
    let opened = opened.map_err(|error| error.to_string())?;
    // Under what it was asked for by: the target keeps it under that name.
    let sealed = key.seal(owner, which, opened.bytes());
    sealed.map_err(|error| error.to_string())
}
