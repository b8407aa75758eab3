//! Who may look at the dashboard. Pure: what a request comes with goes in, a verdict comes out.
//!
//! It changes nothing, but tells of names and addresses. So unless it is told otherwise it answers on the node's own machine alone: where
//! both ends of the connection are the loopback, as with `kubectl port-forward`. There it also wants a `Host` of the loopback,
//! or a page from anywhere could have its own name lead here and read it in the browser of whoever is on this machine.

use std::net::{IpAddr, SocketAddr};

use super::{DashboardConfig, Reach};

/// The two ends of a connection to the admin port.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct Ends {
    /// Where it came to.
    pub(in crate::admin) to: SocketAddr,
    /// Where it came from.
    pub(in crate::admin) from: SocketAddr,
}

/// What a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may look.
    Welcome,
    /// There is no dashboard.
    Off,
    /// Not from there.
    Elsewhere,
    /// Not without the token.
    TokenNeeded,
}

/// Judges a request by its ends, its `Host` and its `Authorization`.
pub(super) fn judge(config: &DashboardConfig, ends: Ends, host: Option<&str>, authorization: Option<&str>) -> Verdict {
    let is_here = is_loopback(ends.to.ip()) && is_loopback(ends.from.ip()) && host.is_some_and(is_own_host);
    match config.reach {
        Reach::Off => return Verdict::Off,
        Reach::Local if !is_here => return Verdict::Elsewhere,
        Reach::Local | Reach::Everywhere => {}
    }
    match &config.token {
        Some(token) if !authorization.is_some_and(|given| has_token(given, token.as_str())) => Verdict::TokenNeeded,
        _ => Verdict::Welcome,
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// `localhost`, or a loopback address, with or without a port.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_named = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_named || name.parse().is_ok_and(is_loopback)
}

/// `Bearer TOKEN`, or `Basic` with the token as the password, which every browser asks for by itself.
fn has_token(given: &str, token: &str) -> bool {
    let Some((scheme, credentials)) = given.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_same(credentials.trim().as_bytes(), token.as_bytes());
    }
    let Some(decoded) = base64(credentials.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic")) else {
        return false;
    };
    let password = decoded.iter().position(|byte| *byte == b':').and_then(|at| decoded.get(at + 1..));
    password.is_some_and(|password| is_same(password, token.as_bytes()))
}

/// Takes as long whatever is the same of the two.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    fn ends(to: &str, from: &str) -> Ends {
        Ends { to: to.parse().unwrap(), from: from.parse().unwrap() }
    }

    fn config(reach: Reach, token: Option<&str>) -> DashboardConfig {
        DashboardConfig { reach, token: token.map(|token| token.parse().unwrap()) }
    }

    #[test]
    fn unless_told_it_answers_at_home_alone() {
        let (home, here) = (ends("127.0.0.1:9470", "127.0.0.1:5"), config(Reach::Local, None));
        for host in ["localhost:9470", "127.0.0.1", "[::1]:9470", "shop.localhost"] {
            assert_eq!(judge(&here, home, Some(host), None), Verdict::Welcome, "{host}");
        }
        for host in [None, Some("evil.example:9470"), Some("localhost.evil.example"), Some("10.0.0.1:9470"), Some("")] {
            assert_eq!(judge(&here, home, host, None), Verdict::Elsewhere, "{host:?}");
        }
        let mapped = ends("[::ffff:127.0.0.1]:9470", "[::ffff:127.0.0.1]:5");
        assert_eq!(judge(&here, mapped, Some("localhost"), None), Verdict::Welcome);
        for (to, from) in
            [("10.0.0.1:9470", "10.0.0.2:5"), ("10.0.0.1:9470", "127.0.0.1:5"), ("127.0.0.1:1", "10.0.0.2:5")]
        {
            assert_eq!(judge(&here, ends(to, from), Some("localhost"), None), Verdict::Elsewhere, "{to} {from}");
        }
        assert_eq!(judge(&config(Reach::Off, None), home, Some("localhost"), None), Verdict::Off);
        let far = ends("10.0.0.1:9470", "10.0.0.2:5");
        assert_eq!(judge(&config(Reach::Everywhere, None), far, Some("shop"), None), Verdict::Welcome);
    }

    #[test]
    fn a_token_opens_as_a_bearers_and_as_a_password() {
        let (far, asked) =
            (ends("10.0.0.1:9470", "10.0.0.2:5"), config(Reach::Everywhere, Some("a-token-of-20-letters")));
        let judged = |given| judge(&asked, far, None, given);
        assert_eq!(judged(Some("Bearer a-token-of-20-letters")), Verdict::Welcome);
        // eve:a-token-of-20-letters
        assert_eq!(judged(Some("basic ZXZlOmEtdG9rZW4tb2YtMjAtbGV0dGVycw==")), Verdict::Welcome);
        let wrong = ["Bearer a-token-of-20-letterz", "Bearer ", "Basic !", "Basic ZXZl", "a-token-of-20-letters", ""];
        for wrong in wrong {
            assert_eq!(judged(Some(wrong)), Verdict::TokenNeeded, "{wrong}");
        }
        assert_eq!(judged(None), Verdict::TokenNeeded);
        let home = ends("127.0.0.1:9470", "127.0.0.1:5");
        let at_home = judge(&config(Reach::Local, Some("a-token-of-20-letters")), home, Some("localhost"), None);
        assert_eq!(at_home, Verdict::TokenNeeded);
    }
}
