//! Addresses, as far as downloads need them: a scheme, an authority without user, a path with its query.

use std::fmt;

/// Longest address that is followed.
const BYTES_MAX: usize = 8192;

/// An address of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    secure: bool,
    authority: String,
    /// Empty, or beginning with a slash.
    path: String,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// In words, what is no address.
    pub fn parse(text: &str) -> Result<Url, String> {
        let fault = || format!("is no address: http://HOST or https://HOST makes one, without a user, not {text:?}");
        let good = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        if text.len() > BYTES_MAX || !text.bytes().all(good) {
            return Err(fault());
        }
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(fault()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(fault());
        }
        let path = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
        Ok(Url { secure, authority: authority.to_ascii_lowercase(), path })
    }

    /// The address of a path of the same host; the path begins with a slash.
    pub fn with(&self, path: &str) -> Url {
        Url { path: format!("{}{path}", self.path), ..self.clone() }
    }

    /// Where a `Location` leads from here.
    ///
    /// # Errors
    /// In words, when it leads nowhere, or from a secure connection to an open one.
    pub fn follow(&self, location: &str) -> Result<Url, String> {
        let next = match location {
            absolute if absolute.contains("://") => Url::parse(absolute)?,
            same if same.starts_with("//") => Url::parse(&format!("{}:{same}", self.scheme()))?,
            rooted if rooted.starts_with('/') => {
                Url::parse(&format!("{}://{}{rooted}", self.scheme(), self.authority))?
            }
            relative => {
                let path = self.path.split('?').next().unwrap_or_default();
                let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
                Url::parse(&format!(
                    "{}://{}/{}{relative}",
                    self.scheme(),
                    self.authority,
                    folder.trim_start_matches('/')
                ))?
            }
        };
        if self.secure && !next.secure {
            return Err(format!("is a redirect from https to http, to {}", next.authority));
        }
        Ok(next)
    }

    /// Whether both are the same scheme, host and port.
    pub fn is_same_host(&self, other: &Url) -> bool {
        self.secure == other.secure && self.authority == other.authority
    }

    /// Whether the other host is this one, or one of its domain: of what stands behind the first point of its name, where
    /// that has a point itself. An address of numbers has no domain.
    pub fn is_same_domain(&self, other: &Url) -> bool {
        let name =
            |url: &Url| url.authority.rsplit_once(':').map_or(url.authority.clone(), |(name, _)| name.to_owned());
        let (own, other) = (name(self), name(other));
        let is_number = own.bytes().all(|byte| byte.is_ascii_digit() || b".:[]".contains(&byte));
        let above = own.split_once('.').map(|(_, above)| above).filter(|above| above.contains('.'));
        let domain = above.unwrap_or(&own);
        own == other || (!is_number && (other == domain || other.ends_with(&format!(".{domain}"))))
    }

    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.authority
    }

    /// The whole address.
    pub fn text(&self) -> String {
        self.to_string()
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

/// A text as one part of a path or a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_as_browsers_do_but_never_down() {
        let from = Url::parse("https://h.co/a/b/c?x=1").unwrap();
        let check = |location: &str, wanted: &str| {
            assert_eq!(from.follow(location).unwrap().text(), wanted, "{location}");
        };
        check("https://cdn.h.co/x?y", "https://cdn.h.co/x?y");
        check("/x", "https://h.co/x");
        check("d", "https://h.co/a/b/d");
        check("//o.co/x", "https://o.co/x");
        for bad in
            ["http://h.co/x", "ftp://h/x", "file:///etc/passwd", "https://u@h/x", "https://", "https://h/\u{1}", ""]
        {
            let fell = from.follow(bad);
            assert!(fell.is_err() || bad.is_empty(), "{bad}: {fell:?}");
        }
    }

    #[test]
    fn a_host_is_the_same_only_with_its_scheme_and_port() {
        let one = Url::parse("http://127.0.0.1:80/x").unwrap();
        for (other, same) in
            [("http://127.0.0.1:80/y", true), ("http://127.0.0.1:81/x", false), ("https://127.0.0.1:80/x", false)]
        {
            assert_eq!(one.is_same_host(&Url::parse(other).unwrap()), same, "{other}");
        }
    }

    #[test]
    fn a_domain_is_what_stands_behind_the_first_point() {
        for (own, other, same) in [
            ("https://registry-1.docker.io", "https://auth.docker.io", true),
            ("https://registry.ollama.ai", "https://ollama.ai", true),
            ("https://ghcr.io", "https://ghcr.io", true),
            ("https://ghcr.io", "https://token.ghcr.io", true),
            ("https://ghcr.io", "https://other.io", false),
            ("https://registry.ollama.ai", "https://evil-ollama.ai", false),
            ("https://registry.ollama.ai", "https://ollama.ai.evil.com", false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:6000", true),
            ("http://127.0.0.1:5000", "http://1.0.0.1", false),
            ("http://localhost:5000", "http://169.254.169.254", false),
        ] {
            let (own, other) = (Url::parse(own).unwrap(), Url::parse(other).unwrap());
            assert_eq!(own.is_same_domain(&other), same, "{own} {other}");
        }
    }

    #[test]
    fn a_part_of_a_path_stays_one_part() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b+é?"), "a%20b%2B%C3%A9%3F");
    }
}
