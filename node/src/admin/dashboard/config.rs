//! How a node's dashboard is opened.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// Characters that a token has at least: fewer could be tried out.
pub const MIN_TOKEN_LENGTH: usize = 16;

/// To whom the dashboard answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// To nobody.
    Off,
    /// On the node's own machine: both ends of the connection are the loopback, as with `kubectl port-forward`.
    #[default]
    Local,
    /// To whoever reaches the admin port.
    Everywhere,
}

/// What whoever looks has to know. Not told in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the token has fewer than {MIN_TOKEN_LENGTH} characters, or others than visible ASCII; `openssl rand -hex 16` makes one"
)]
pub struct BadToken;

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        match text.len() >= MIN_TOKEN_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Arc::from(text))),
            false => Err(BadToken),
        }
    }
}

/// The dashboard of an admin port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DashboardConfig {
    /// To whom it answers.
    pub reach: Reach,
    /// What they have to know beside that; none: nothing. As password of HTTP's Basic authentication, whoever the user, or as a Bearer's.
    pub token: Option<Token>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_is_not_told() {
        assert_eq!("short".parse::<Token>(), Err(BadToken));
        assert_eq!("with a space in between".parse::<Token>(), Err(BadToken));
        let told = format!("{:?}", "0123456789abcdef".parse::<Token>());
        assert_eq!(told, "Ok(Token(…))");
    }
}
