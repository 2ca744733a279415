//! Secrets of users. They are never printed: `Debug` hides them, there is no `Display`, and the
//! excerpts of error reports cut the lines that carry them.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;

use super::problem::Fault;

/// What proves a user.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself, from `secret` or from the file that `secret_file` names.
    Plain(String),
    /// Only a hash of it, as PHC string `$argon2id$…`; parsed once, so known to be well-formed.
    Argon2(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(hidden)",
            Self::Argon2(_) => "Argon2(hidden)",
        })
    }
}

impl Secret {
    /// From `secret`.
    ///
    /// # Errors
    /// If it is empty.
    pub(super) fn plain(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            let hint = "leave out the user, or give it a secret of some length";
            return Err(Fault::new("the secret is empty", hint));
        }
        Ok(Self::Plain(text.to_owned()))
    }

    /// From the content of a `secret_file`; one line end after the secret is not part of it.
    ///
    /// # Errors
    /// If it is empty, not UTF-8 or has several lines.
    pub(super) fn file(content: &[u8]) -> Result<Self, Fault> {
        let hint = "the file holds the secret as UTF-8 text on its first and only line";
        let Ok(text) = std::str::from_utf8(content) else {
            return Err(Fault::new("the secret file is not UTF-8", hint));
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(Fault::new("the secret file is empty", hint));
        }
        if text.contains(['\n', '\r']) {
            return Err(Fault::new("the secret file has more than one line", hint));
        }
        Ok(Self::Plain(text.to_owned()))
    }

    /// From `secret_argon2`.
    ///
    /// # Errors
    /// If it is no PHC string of Argon2 with parameters, salt and hash.
    pub(super) fn argon2(text: &str) -> Result<Self, Fault> {
        let fault = || {
            Fault::new(
                "this is not an Argon2 hash",
                "the form is `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`; \
                 `argon2 SALT -id -e < secret` prints one",
            )
        };
        let hash = PasswordHash::new(text).map_err(|_| fault())?;
        let is_argon2 = argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok();
        let params = argon2::Params::try_from(&hash);
        if !is_argon2 || params.is_err() || hash.salt.is_none() || hash.hash.is_none() {
            return Err(fault());
        }
        Ok(Self::Argon2(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of `password`, as the reference tool prints it.
    const HASH: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn debug_hides_every_kind() {
        let plain = Secret::plain("joe-secret").expect("a secret");
        let hashed = Secret::argon2(HASH).expect("a hash");
        let text = format!("{plain:?} {plain:#?} {hashed:?} {hashed:#?}");
        assert!(
            !text.contains("joe") && !text.contains("argon2id"),
            "{text}"
        );
    }

    #[test]
    fn a_secret_file_is_one_line() {
        for content in ["joe-secret", "joe-secret\n", "joe-secret\r\n"] {
            let secret = Secret::file(content.as_bytes()).map_err(|fault| fault.message);
            assert_eq!(secret, Ok(Secret::Plain("joe-secret".to_owned())));
        }
        for (content, message) in [
            (&b""[..], "the secret file is empty"),
            (b"\n", "the secret file is empty"),
            (b"a\nb", "the secret file has more than one line"),
            (b"a\n\n", "the secret file has more than one line"),
            (b"\xff\xfe", "the secret file is not UTF-8"),
        ] {
            let refused = Secret::file(content).map_err(|fault| fault.message);
            assert_eq!(refused, Err(message.to_owned()));
        }
    }

    #[test]
    fn a_hash_is_checked_when_it_is_read() {
        assert_eq!(
            Secret::argon2(HASH).map_err(|f| f.message),
            Ok(Secret::Argon2(HASH.to_owned()))
        );
        let cut = HASH.rsplit_once('$').map_or("", |(head, _)| head);
        let other = HASH.replace("argon2id", "scrypt");
        let cost = HASH.replace("m=65536", "m=1");
        for text in ["", "joe-secret", "$argon2id$", cut, &other, &cost] {
            assert!(Secret::argon2(text).is_err(), "{text}");
        }
    }
}
