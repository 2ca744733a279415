//! The opening handshake (Advanced Profile, "RawSocket Transport", section "Handshake"): four
//! octets each way, before any message.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The first octet of either side's handshake.
pub const MAGIC: u8 = 0x7F;

/// The least length that can be announced is 2 to this power.
const LEAST_POWER: u32 = 9;
/// ... and the greatest, 2 to this one.
const GREATEST_POWER: u32 = 24;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The serializer, as the protocol above numbers them; never 0.
    pub serializer: u8,
    /// The longest message that the client takes, in bytes.
    pub receives_bytes: usize,
}

/// Why a client is turned away, as the reply says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// "serializer unsupported"
    Serializer = 1,
    /// "maximum message length unacceptable"
    Length = 2,
    /// "use of reserved bits (unsupported feature)"
    ReservedBits = 3,
    /// "maximum connection count reached"
    Connections = 4,
}

impl Request {
    /// Reads the octets behind the magic one.
    ///
    /// # Errors
    /// What the reply must say.
    pub fn read([second, third, fourth]: [u8; 3]) -> Result<Request, Refusal> {
        if (third, fourth) != (0, 0) {
            return Err(Refusal::ReservedBits);
        }
        match second & 0x0F {
            // "0: illegal"
            0 => Err(Refusal::Serializer),
            serializer => Ok(Request {
                serializer,
                receives_bytes: 1 << (LEAST_POWER + u32::from(second >> 4)),
            }),
        }
    }

    /// The reply that lets the client in: the same serializer, and how long its messages may be.
    #[must_use]
    pub fn reply(&self, takes_bytes: usize) -> [u8; 4] {
        let power = power_in(takes_bytes) - LEAST_POWER;
        let power = u8::try_from(power).unwrap_or_default();
        [MAGIC, power << 4 | self.serializer, 0, 0]
    }
}

impl Refusal {
    /// The reply that turns the client away.
    #[must_use]
    pub const fn reply(self) -> [u8; 4] {
        [MAGIC, (self as u8) << 4, 0, 0]
    }
}

/// What can be announced for a limit: the greatest power of two in it, from 512 to 16 Mi.
#[must_use]
pub fn announced_bytes(limit: usize) -> usize {
    1 << power_in(limit)
}

fn power_in(limit: usize) -> u32 {
    let power = limit.checked_ilog2().unwrap_or(0);
    power.clamp(LEAST_POWER, GREATEST_POWER)
}

/// The server's side: reads the request and answers it. Not cancel safe: whoever gives up waiting
/// gives up the connection.
///
/// # Errors
/// What the stream says; of kind `InvalidData` if the client was turned away, which it was told.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    takes_bytes: usize,
    is_served: impl Fn(u8) -> bool,
) -> io::Result<Request> {
    let mut octets = [0; 4];
    io.read_exact(&mut octets).await?;
    let [first, rest @ ..] = octets;
    if first != MAGIC {
        return Err(invalid("no RawSocket handshake"));
    }
    let request = Request::read(rest).and_then(|request| match is_served(request.serializer) {
        true => Ok(request),
        false => Err(Refusal::Serializer),
    });
    match request {
        Ok(request) => {
            io.write_all(&request.reply(takes_bytes)).await?;
            io.flush().await?;
            Ok(request)
        }
        Err(refusal) => {
            io.write_all(&refusal.reply()).await?;
            io.shutdown().await?;
            Err(invalid(refusal.text()))
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Refusal {
    /// Words for a person.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Refusal::Serializer => "the serializer is not supported",
            Refusal::Length => "the maximum message length is not acceptable",
            Refusal::ReservedBits => "reserved bits of the handshake are used",
            Refusal::Connections => "there are too many connections",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_serializer_is_read_and_echoed() {
        for second in 0..=255_u8 {
            let (power, serializer) = (u32::from(second >> 4), second & 0x0F);
            let read = Request::read([second, 0, 0]);
            if serializer == 0 {
                assert_eq!(read, Err(Refusal::Serializer));
                continue;
            }
            let receives_bytes = 512 << power;
            let expected = Request {
                serializer,
                receives_bytes,
            };
            assert_eq!(read, Ok(expected));
            assert_eq!(expected.reply(receives_bytes), [0x7F, second, 0, 0]);
        }
    }

    #[test]
    fn reserved_octets_are_refused_as_such() {
        for octets in [[0xF1, 0, 1], [0xF1, 1, 0], [0xF1, 0x80, 0x80]] {
            assert_eq!(Request::read(octets), Err(Refusal::ReservedBits));
        }
    }

    #[test]
    fn refusals_have_no_serializer_and_their_number_above_it() {
        let all = [
            Refusal::Serializer,
            Refusal::Length,
            Refusal::ReservedBits,
            Refusal::Connections,
        ];
        let replies = all.map(Refusal::reply);
        let expected = [0x10, 0x20, 0x30, 0x40].map(|second| [0x7F, second, 0, 0]);
        assert_eq!(replies, expected);
    }

    #[test]
    fn a_limit_is_announced_as_the_greatest_power_of_two_in_it() {
        for (limit, announced) in [
            (0, 512),
            (512, 512),
            (1023, 512),
            (1024, 1024),
            (1_000_000, 524_288),
            (1 << 20, 1 << 20),
            ((1 << 24) - 1, 1 << 23),
            (1 << 24, 1 << 24),
            (usize::MAX, 1 << 24),
        ] {
            assert_eq!(announced_bytes(limit), announced);
        }
    }
}
