//! The terms in which histories speak.

/// A value, unlike any other by its number; the colour is shared by several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datum {
    /// Unique in a history.
    pub number: u64,
    /// What conditions on more than one value ask for.
    pub colour: u8,
}

/// What a key keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// What somebody wrote, or said about the key that it holds alone.
    Datum(Datum),
    /// So many share the key.
    Shared(u64),
    /// So many permits are taken.
    Permits {
        /// Of so many.
        limit: u64,
        /// Taken.
        taken: u64,
    },
}

/// What `when` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Null: the key is absent.
    Absent,
    /// The empty dict: there is some value.
    Present,
    /// The value of this number.
    Number(u64),
    /// Any value of this colour.
    Colour(u8),
}

impl Condition {
    /// Whether it holds for what a key keeps.
    #[must_use]
    pub fn holds(self, kept: Option<Kept>) -> bool {
        match (self, kept) {
            (Condition::Absent, kept) => kept.is_none(),
            (_, None) => false,
            (Condition::Present, Some(_)) => true,
            (Condition::Number(number), Some(Kept::Datum(datum))) => datum.number == number,
            (Condition::Colour(colour), Some(Kept::Datum(datum))) => datum.colour == colour,
            (_, Some(_)) => false,
        }
    }
}

/// A retained publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// `None` deletes.
    pub value: Option<Datum>,
    /// Under this condition only.
    pub when: Option<Condition>,
    /// Wait for the condition.
    pub watch: bool,
    /// It may stop waiting by time.
    pub timed: bool,
    /// What to write when the session ends; `Some(None)` deletes.
    pub will: Option<Option<Datum>>,
}

impl Write {
    /// Without any option.
    #[must_use]
    pub fn plain(value: Option<Datum>) -> Write {
        Write {
            value,
            when: None,
            watch: false,
            timed: false,
            will: None,
        }
    }
}

/// How a key is to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Alone.
    Alone,
    /// With others who share it.
    Shared,
    /// With others, as long as there are permits.
    Permits {
        /// To take.
        take: u64,
        /// Of so many; the same throughout a history.
        limit: u64,
    },
}

/// How long somebody waits for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: `try_acquire`.
    No,
    /// For some time.
    Timed,
    /// Until its turn comes.
    Endless,
}

/// `fox.lock.acquire` or `fox.lock.try_acquire`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How the key is wanted.
    pub wish: Wish,
    /// For how long it is waited for.
    pub wait: Wait,
    /// The hold ends by itself.
    pub leased: bool,
    /// Once more, if the session holds it already.
    pub reentrant: bool,
    /// What the key says while it is held alone.
    pub data: Datum,
}

/// How many of a list are told.
pub const FEW: usize = 6;

/// The length of a list, and its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few<T> {
    /// All of them.
    pub len: usize,
    /// The first ones.
    pub first: [Option<T>; FEW],
}

impl<T: Copy> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Few<T> {
        let mut few = Few {
            len: 0,
            first: [None; FEW],
        };
        for item in items {
            if let Some(place) = few.first.get_mut(few.len) {
                *place = Some(item);
            }
            few.len += 1;
        }
        few
    }
}

impl<T: Copy> Few<T> {
    /// What is told.
    pub fn told(&self) -> impl Iterator<Item = T> + '_ {
        self.first.iter().flatten().copied()
    }
}

/// A holder, as `fox.lock.inspect` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its session.
    pub session: u64,
    /// Of its grant.
    pub token: u64,
    /// How often it holds the key.
    pub count: u64,
}
