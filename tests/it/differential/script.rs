//! The scripts: text files in `scripts/`, each with a few named sessions.
//!
//! ```text
//! == name                         one script; the name is unique over all files
//! on: 3.1.1 5.0                   versions it runs in (this is the default)
//! show: capabilities              CONNACK with what the server can do, else left out
//! # a comment
//! A> CONNECT clean=0              client A sends a packet
//! B> PUBLISH t x qos=1 ; PINGREQ  two packets in one write
//! B> 70x PUBLISH t x qos=2        seventy packets in one write
//! A> raw 30 05 00 ; 01 61         bytes as they are, in two writes; opens a connection if need be
//! A> raw 30 05 00 ; cut           the same, and at once the end
//! A> open                         a TCP connection and nothing more
//! A> cut                          the end of the connection without DISCONNECT
//! A> cut until B                  the same, and the step lasts until B has received something
//! A> manual                       from here on A acknowledges only what the script says
//! A> hold                         A keeps its acknowledgements until …
//! A> ack                          … this, and acknowledges at once again
//! ```
//!
//! A packet is its name, its unnamed fields in the order of the standard, and `name=value` pairs:
//! flags, identifiers and, in 5.0 only, properties. `\xNN`, `\u{…}` and `\e` (nothing) are
//! escapes, `rep(x,9)` is a repetition, and `user*9=k:v` a property nine times.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// A protocol version a script is run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.
    V3_1,
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The version of this name.
    pub fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "3.1" => Self::V3_1,
            "3.1.1" => Self::V3_1_1,
            "5.0" => Self::V5,
            _ => bail!("no version {name:?}"),
        })
    }

    /// The Protocol Level of CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether packets have properties and reason codes.
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// One session to be played.
#[derive(Debug, Clone)]
pub struct Script {
    pub name: String,
    pub versions: Vec<Version>,
    /// Whether the transcript has what CONNACK says about the server.
    pub capabilities: bool,
    pub steps: Vec<Step>,
}

/// What one client does.
#[derive(Debug, Clone)]
pub struct Step {
    pub client: char,
    /// The line of the script.
    pub text: String,
    pub action: Action,
    /// Who has to receive something before the step is over.
    pub until: Option<char>,
}

/// The kinds of steps.
#[derive(Debug, Clone)]
pub enum Action {
    /// Packets in one write.
    Send(Vec<Request>),
    /// Bytes, one write each, and perhaps the end of the connection in their middle.
    Raw {
        writes: Vec<Vec<u8>>,
        cut: bool,
    },
    Open,
    Cut,
    Manual,
    Hold,
    Ack,
}

/// A packet in words.
#[derive(Debug, Clone)]
pub struct Request {
    /// How often it is sent.
    pub times: usize,
    /// The packet type in the standard's spelling.
    pub kind: String,
    /// Fields without a name.
    pub fields: Vec<Vec<u8>>,
    /// Fields with one; a flag without value has an empty one.
    pub named: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The last value given for a name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.named.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// Whether a flag is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A number, decimal.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value)?;
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name}={text} is not a number"),
        }
    }

    /// A byte, hexadecimal.
    pub fn hex(&self, name: &str) -> Result<Option<u8>> {
        self.get(name).map(hex_byte).transpose()
    }
}

/// Every script, in the order of their names.
pub fn all() -> Result<Vec<Script>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("it/differential/scripts");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let found = parse(&text).with_context(|| format!("in {}", path.display()))?;
        scripts.extend(found);
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    let names: BTreeSet<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    ensure!(names.len() == scripts.len(), "two scripts of one name");
    Ok(scripts)
}

/// The scripts of one file.
pub fn parse(text: &str) -> Result<Vec<Script>> {
    let mut scripts: Vec<Script> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        parse_line(line.trim(), &mut scripts).with_context(|| format!("line {}", number + 1))?;
    }
    Ok(scripts)
}

fn parse_line(line: &str, scripts: &mut Vec<Script>) -> Result<()> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(());
    }
    if let Some(name) = line.strip_prefix("== ") {
        scripts.push(Script {
            name: name.to_owned(),
            versions: vec![Version::V3_1_1, Version::V5],
            capabilities: false,
            steps: Vec::new(),
        });
        return Ok(());
    }
    let script = scripts.last_mut().context("a line before the first name")?;
    if let Some(versions) = line.strip_prefix("on: ") {
        script.versions = versions
            .split(' ')
            .map(Version::named)
            .collect::<Result<_>>()?;
    } else if line == "show: capabilities" {
        script.capabilities = true;
    } else {
        script.steps.push(parse_step(line)?);
    }
    Ok(())
}

/// One line such as `A> PINGREQ`.
pub fn parse_step(line: &str) -> Result<Step> {
    let (client, words) = line.split_once("> ").context("no client")?;
    let client = letter(client)?;
    let (words, until) = match words.split_once(" until ") {
        Some((words, until)) => (words, Some(letter(until)?)),
        None => (words, None),
    };
    let action = match words {
        "open" => Action::Open,
        "cut" => Action::Cut,
        "manual" => Action::Manual,
        "hold" => Action::Hold,
        "ack" => Action::Ack,
        _ => match words.strip_prefix("raw ") {
            Some(bytes) => parse_raw(bytes)?,
            None => {
                let requests: Result<_> = words.split(" ; ").map(parse_request).collect();
                Action::Send(requests?)
            }
        },
    };
    Ok(Step {
        client,
        text: line.to_owned(),
        action,
        until,
    })
}

fn letter(text: &str) -> Result<char> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(client @ 'A'..='Z'), None) => Ok(client),
        _ => bail!("{text:?} is not a client"),
    }
}

fn parse_raw(text: &str) -> Result<Action> {
    let (text, cut) = match text.strip_suffix(" ; cut") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let writes = text.split(" ; ").map(hex_bytes).collect::<Result<_>>()?;
    Ok(Action::Raw { writes, cut })
}

fn parse_request(text: &str) -> Result<Request> {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let mut kind = words.next().context("no packet")?;
    let mut times = 1;
    if let Some(count) = kind.strip_suffix('x')
        && let Ok(count) = count.parse()
    {
        times = count;
        kind = words.next().context("no packet")?;
    }
    ensure!(
        kind.chars().all(|letter| letter.is_ascii_uppercase()),
        "{kind:?} is not a packet"
    );
    let (mut fields, mut named) = (Vec::new(), Vec::new());
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => {
                let (name, count) = match name.split_once('*') {
                    Some((name, count)) => (name, count.parse()?),
                    None => (name, 1),
                };
                let pair = (name.to_owned(), unescape(value)?);
                named.extend(std::iter::repeat_n(pair, count));
            }
            None if matches!(word, "retain" | "dup") => named.push((word.to_owned(), Vec::new())),
            None => fields.push(unescape(word)?),
        }
    }
    let kind = kind.to_owned();
    Ok(Request {
        times,
        kind,
        fields,
        named,
    })
}

fn hex_bytes(text: &str) -> Result<Vec<u8>> {
    text.split(' ')
        .map(|byte| hex_byte(byte.as_bytes()))
        .collect()
}

fn hex_byte(text: &[u8]) -> Result<u8> {
    let text = std::str::from_utf8(text)?;
    u8::from_str_radix(text, 16).with_context(|| format!("{text:?} is not a byte"))
}

/// Resolves escapes and repetitions.
fn unescape(text: &str) -> Result<Vec<u8>> {
    if let Some((before, rest)) = text.split_once("rep(") {
        let (part, rest) = rest.split_once(',').context("rep(x,9)")?;
        let (count, after) = rest.split_once(')').context("an open rep(")?;
        let repeated = part.repeat(count.parse()?).into_bytes();
        return Ok([unescape(before)?, repeated, unescape(after)?].concat());
    }
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        rest = if let Some(after) = escape.strip_prefix('e') {
            after
        } else if let Some(after) = escape.strip_prefix('x') {
            let (digits, after) = after.split_at_checked(2).context("a short \\x")?;
            bytes.push(hex_byte(digits.as_bytes())?);
            after
        } else if let Some(after) = escape.strip_prefix("u{") {
            let (digits, after) = after.split_once('}').context("an open \\u{")?;
            let code = u32::from_str_radix(digits, 16)?;
            let letter = char::from_u32(code).context("not a character")?;
            bytes.extend(letter.to_string().as_bytes());
            after
        } else {
            bail!("an unknown escape in {text:?}");
        };
    }
    bytes.extend(rest.as_bytes());
    Ok(bytes)
}

#[test]
fn scripts_say_what_they_mean() -> crate::Outcome {
    let scripts = parse(
        "== one\non: 3.1 5.0\n# why\nA> CONNECT clean=0\nB> 3x PUBLISH a\\x20b rep(x,3) retain ; PINGREQ\n\
         A> raw 30 05 ; 00 ; cut\n== two\nshow: capabilities\nA> open",
    )?;
    ensure!(scripts.len() == 2 && scripts[1].capabilities, "{scripts:?}");
    ensure!(scripts[0].versions == [Version::V3_1, Version::V5]);
    let Action::Send(packets) = &scripts[0].steps[1].action else {
        bail!("{:?}", scripts[0].steps[1]);
    };
    ensure!(packets.len() == 2 && packets[0].times == 3 && packets[0].has("retain"));
    ensure!(packets[0].fields == [b"a b".to_vec(), b"xxx".to_vec()]);
    let Action::Raw { writes, cut } = &scripts[0].steps[2].action else {
        bail!("{:?}", scripts[0].steps[2]);
    };
    ensure!(writes == &[vec![0x30, 5], vec![0]] && *cut);
    ensure!(unescape("\\u{feff}a\\e")? == "\u{feff}a".as_bytes());
    ensure!(unescape("k:rep(ab,2)\\x20")? == b"k:abab ");
    for wrong in [
        "A> CONNECT",
        "== x\nCONNECT",
        "== x\nAB> PINGREQ",
        "== x\nA> raw zz",
        "== x\nA> X \\q",
    ] {
        ensure!(parse(wrong).is_err(), "{wrong:?} was taken");
    }
    Ok(())
}
