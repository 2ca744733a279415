//! What transcripts call the messages in flight to a client: `p1`, `p2` and so on in the order of
//! comparison, whatever Packet Identifiers the broker chose.

/// The names that a client has given.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Packet Identifier and number.
    known: Vec<(u16, usize)>,
    given: usize,
}

impl Names {
    /// The name of a message, a new one if it has none.
    pub fn name(&mut self, id: u16) -> String {
        let known = self.known.iter().find(|(known, _)| *known == id);
        let number = match known {
            Some((_, number)) => *number,
            None => {
                self.given += 1;
                self.known.push((id, self.given));
                self.given
            }
        };
        format!("p{number}")
    }

    /// The Packet Identifier behind a name.
    pub fn id(&self, name: &str) -> Option<u16> {
        let number: usize = name.strip_prefix('p')?.parse().ok()?;
        let found = self.known.iter().find(|(_, known)| *known == number);
        found.map(|(id, _)| *id)
    }

    /// The message is settled; its identifier may be another's.
    pub fn release(&mut self, name: &[u8]) {
        self.known
            .retain(|(_, number)| format!("p{number}").as_bytes() != name);
    }

    /// There is no session any more.
    pub fn clear(&mut self) {
        self.known.clear();
    }
}

#[test]
fn a_name_lasts_until_its_message_is_settled() -> crate::Outcome {
    let mut names = Names::default();
    anyhow::ensure!(names.name(7) == "p1" && names.name(9) == "p2" && names.name(7) == "p1");
    anyhow::ensure!(names.id("p2") == Some(9) && names.id("p3").is_none());
    names.release(b"p1");
    anyhow::ensure!(names.id("p1").is_none() && names.name(7) == "p3");
    names.clear();
    anyhow::ensure!(names.id("p2").is_none() && names.name(9) == "p4");
    Ok(())
}
