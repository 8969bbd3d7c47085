//! What AWS refuses, in words that say what to do, and whether trying again may help.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use holdfast_plugins::Failure;

/// Longest reason that is passed on, in characters.
const REASON_MAX_CHARS: usize = 400;

/// Why `doing` failed.
pub(crate) fn fault<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(refused) => {
            let (code, message) = (refused.err().code(), refused.err().message());
            let status = refused.raw().status().as_u16();
            judge(
                doing,
                code.unwrap_or("no code"),
                message.unwrap_or_default(),
                status,
            )
        }
        other => unreached(doing, &DisplayErrorContext(other).to_string()),
    }
}

/// Whether a call failed because what it named is not there.
pub(crate) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    matches!(
        code,
        Some("ResourceNotFoundException" | "ServiceNotFoundException" | "ClusterNotFoundException")
    )
}

/// A call that got no answer.
fn unreached(doing: &str, why: &str) -> Failure {
    let why: String = why.chars().take(REASON_MAX_CHARS).collect();
    let help = if why.contains("credentials") || why.contains("Credentials") {
        "; give the plugin credentials in its environment in agent.toml, by a profile, or by the \
         role of the machine"
    } else {
        "; is the region right, and may the target reach it?"
    };
    Failure::Retryable(format!("cannot {doing}: {why}{help}"))
}

/// What an answer that refuses means.
fn judge(doing: &str, code: &str, message: &str, status: u16) -> Failure {
    let message: String = message.chars().take(REASON_MAX_CHARS).collect();
    let (again, help) = taught(code, &message, status);
    let words = format!("cannot {doing}: {message} ({code}){help}");
    if again {
        Failure::Retryable(words)
    } else {
        Failure::Permanent(words)
    }
}

/// Whether trying again may help, and what a person can do.
fn taught(code: &str, message: &str, status: u16) -> (bool, &'static str) {
    match code {
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => (
            false,
            "; allow it in the policy of the plugin's credentials",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException" => (
            true,
            "; the plugin's credentials are not accepted: renew them, or name their profile",
        ),
        "TooManyRequestsException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "EC2ThrottledException" => (true, "; it is throttled"),
        "PreconditionFailedException" => (true, "; somebody else changed it in the same moment"),
        "ResourceConflictException" | "ResourceInUseException" | "UpdateInProgressException" => {
            (true, "; something else is at it")
        }
        "ServiceNotActiveException" => (true, "; it is being deleted"),
        "ClientException" if message.contains("Too many concurrent") => (true, ""),
        "CodeStorageExceededException" => (false, "; keep fewer versions, or ask for more storage"),
        "ClusterNotFoundException" => (false, "; make the cluster, or correct cluster or region"),
        "InvalidParameterValueException" if message.contains("cannot be assumed") => (
            true,
            "; a new role takes some seconds, else its trust policy must name lambda.amazonaws.com",
        ),
        "RequestEntityTooLargeException" => (false, "; make the code smaller, or an image"),
        _ => (status >= 500 || status == 429, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_to_try_again_depends_on_who_can_mend_it() {
        let again = |code, message, status| {
            matches!(judge("do it", code, message, status), Failure::Retryable(_))
        };
        assert!(again("TooManyRequestsException", "Rate exceeded", 429));
        assert!(again("ServiceException", "oops", 500));
        assert!(again("PreconditionFailedException", "RevisionId", 412));
        assert!(again(
            "InvalidParameterValueException",
            "The role cannot be assumed by Lambda.",
            400
        ));
        assert!(!again("InvalidParameterValueException", "memory", 400));
        assert!(!again(
            "AccessDeniedException",
            "not authorized to perform lambda:X",
            403
        ));
    }

    #[test]
    fn a_refusal_says_what_was_tried_and_what_to_do() {
        let said = judge(
            "create function web",
            "AccessDeniedException",
            "User x is not authorized",
            403,
        );
        assert_eq!(
            said.to_string(),
            "cannot create function web: User x is not authorized (AccessDeniedException); allow it \
             in the policy of the plugin's credentials"
        );
        assert!(
            unreached("x", "no providers in chain provided credentials")
                .to_string()
                .contains("agent.toml")
        );
    }
}
