//! The table of exclusions: where an oracle and our codec differ, and why ours is right.
//!
//! Every row says what oracles do, and the clause that decides. It holds for the oracles, versions
//! and packet types of its witnesses and nowhere else, and each witness must be a disagreement
//! without the row (`every_exclusion_is_needed`). `README.md` shows the table.

mod content;
mod errors;
mod framing;

use std::fmt::Write as _;

use protocols::mqtt::packet::{Direction, Packet, PacketType, ProtocolVersion};

use crate::harness::{Case, Name};

/// A difference that is the oracle's error.
pub struct Row {
    /// Names the row.
    pub name: &'static str,
    /// What they do.
    pub what: What,
    /// What they get wrong.
    pub why: &'static str,
    /// The rule they break, or the rule that allows what they refuse; of 5.0, or of the version in
    /// parentheses.
    pub clause: &'static str,
    /// Bytes that show it: the oracles by their first letters, version, `>` from a client or `<`
    /// from a server, hex.
    pub witnesses: &'static [&'static str],
}

/// How an oracle errs.
pub enum What {
    /// Accepts what we refuse with this message.
    Accepts(&'static str),
    /// Refuses these legal packets; the function also sees their bytes.
    Refuses(fn(&Packet, &[u8]) -> bool),
    /// Reads these legal packets as others.
    Misreads(fn(&Packet, &[u8]) -> bool),
    /// Cannot tell some packets apart: the function makes ours as poor as theirs.
    Folds(fn(&mut Packet)),
    /// Writes these legal packets wrongly, or not at all.
    Miswrites(fn(&Packet) -> bool),
}

impl What {
    /// As a verb for a list.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Accepts(_) => "accepts",
            Self::Refuses(_) => "refuses",
            Self::Misreads(_) => "misreads",
            Self::Folds(_) => "cannot tell apart",
            Self::Miswrites(_) => "miswrites",
        }
    }
}

/// Where a disagreement was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// With whom.
    pub oracle: Name,
    /// In which version.
    pub version: ProtocolVersion,
    /// In which packet; `None` is the reserved type 0.
    pub kind: Option<PacketType>,
}

/// A packet as an oracle can express it.
pub struct Folded {
    /// The packet.
    pub packet: Packet,
    /// The row that changed it.
    pub by: Option<&'static str>,
}

/// Bytes that show what a row says.
pub struct Witness {
    /// Who errs on them.
    pub oracles: Vec<Name>,
    /// The bytes.
    pub case: Case,
}

/// The rows in force.
pub struct Exclusions(Vec<(&'static Row, Vec<Witness>)>);

impl Exclusions {
    /// The whole table.
    pub fn all() -> Self {
        let rows = [framing::ROWS, content::ROWS, errors::ROWS]
            .into_iter()
            .flatten();
        Self(rows.map(|row| (row, row.witnesses())).collect())
    }

    /// The table without the row of this name.
    pub fn without(name: &str) -> Self {
        let mut all = Self::all();
        all.0.retain(|(row, _)| row.name != name);
        all
    }

    /// Every row with its witnesses.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Row, &[Witness])> {
        self.0.iter().map(|(row, witnesses)| (*row, &witnesses[..]))
    }

    fn within(&self, scope: Scope) -> impl Iterator<Item = &'static Row> {
        let shows = move |witness: &Witness| {
            witness.oracles.contains(&scope.oracle)
                && witness.case.judged_version() == scope.version
                && witness.case.kind() == scope.kind
        };
        self.rows()
            .filter(move |(_, witnesses)| witnesses.iter().any(shows))
            .map(|(row, _)| row)
    }

    /// The row that covers a disagreement.
    pub fn excuse(&self, scope: Scope, covers: impl Fn(&What) -> bool) -> Option<&'static str> {
        self.within(scope)
            .find(|row| covers(&row.what))
            .map(|row| row.name)
    }

    /// `packet` without what the oracle cannot express.
    pub fn folded(&self, scope: Scope, packet: &Packet) -> Folded {
        let mut folded = Folded {
            packet: packet.clone(),
            by: None,
        };
        for row in self.within(scope) {
            if let What::Folds(fold) = row.what {
                let before = folded.packet.clone();
                fold(&mut folded.packet);
                if folded.packet != before {
                    folded.by = Some(row.name);
                }
            }
        }
        folded
    }

    /// The table in Markdown, as `README.md` shows it.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| exclusion | the oracle | packets | mqttbytes | rmqtt | core | it | clause |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for (row, witnesses) in self.rows() {
            let message = match row.what {
                What::Accepts(message) => format!(" «{message}»"),
                _ => String::new(),
            };
            let [mqttbytes, rmqtt, core] = ORACLES.map(|oracle| versions(witnesses, oracle));
            writeln!(
                text,
                "| {} | {}{message} | {} | {mqttbytes} | {rmqtt} | {core} | {} | {} |",
                row.name,
                row.what.verb(),
                packets(witnesses),
                row.why,
                row.clause
            )
            .expect("writing to a string");
        }
        text
    }
}

/// In the order of the columns.
const ORACLES: [Name; 3] = [Name::Mqttbytes, Name::Rmqtt, Name::ProtocolCore];

const fn label(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "3.1",
        ProtocolVersion::V3_1_1 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}

/// Versions in which this oracle errs.
fn versions(witnesses: &[Witness], oracle: Name) -> String {
    let mut versions: Vec<_> = witnesses
        .iter()
        .filter(|witness| witness.oracles.contains(&oracle))
        .map(|witness| witness.case.judged_version())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let labels: Vec<_> = versions.into_iter().map(label).collect();
    labels.join(", ")
}

/// Packets in which any oracle errs.
fn packets(witnesses: &[Witness]) -> String {
    let mut kinds: Vec<_> = witnesses
        .iter()
        .filter_map(|witness| witness.case.kind())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let names: Vec<_> = kinds
        .iter()
        .map(|kind| format!("{kind:?}").to_uppercase())
        .collect();
    names.join(", ")
}

impl Row {
    fn witnesses(&self) -> Vec<Witness> {
        self.witnesses.iter().map(|text| witness(text)).collect()
    }
}

fn witness(text: &str) -> Witness {
    let mut words = text.split_whitespace();
    let letters = words.next().unwrap_or_default().chars();
    let oracles = letters
        .map(|letter| match letter {
            'm' => Name::Mqttbytes,
            'r' => Name::Rmqtt,
            'c' => Name::ProtocolCore,
            other => panic!("no oracle: {other} in {text}"),
        })
        .collect();
    let version = match words.next() {
        Some("3.1") => ProtocolVersion::V3_1,
        Some("3.1.1") => ProtocolVersion::V3_1_1,
        Some("5") => ProtocolVersion::V5,
        other => panic!("no version: {other:?} in {text}"),
    };
    let direction = match words.next() {
        Some(">") => Direction::ClientToServer,
        Some("<") => Direction::ServerToClient,
        other => panic!("no direction: {other:?} in {text}"),
    };
    let digits: String = words.collect();
    let bytes = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| str::from_utf8(pair).expect("ASCII"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect();
    let case = Case {
        version,
        direction,
        bytes,
    };
    Witness { oracles, case }
}
