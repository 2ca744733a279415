//! What is known of a token.

/// The token of a key, or of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// As somebody was told.
    Exactly(u64),
    /// Of a write whose token nobody was told: more than this.
    Above(u64),
}

impl Token {
    /// The token of a write that follows, as its writer was told, if so. `None`: it did not grow.
    pub(super) fn next(self, told: Option<u64>) -> Option<Token> {
        let (Token::Exactly(floor) | Token::Above(floor)) = self;
        match told {
            Some(token) => (token > floor).then_some(Token::Exactly(token)),
            None => Some(Token::Above(floor)),
        }
    }

    /// The same token, now that a reader was told that it is `told`.
    pub(super) fn read(self, told: u64) -> Option<Token> {
        let fits = match self {
            Token::Exactly(token) => token == told,
            Token::Above(floor) => told > floor,
        };
        fits.then_some(Token::Exactly(told))
    }

    /// Whether it is this one; of one that nobody knows the guess, which is known from then on.
    pub(super) fn is(&mut self, asked: u64, guess: bool) -> bool {
        match *self {
            Token::Exactly(token) => token == asked,
            Token::Above(floor) if asked > floor && guess => {
                *self = Token::Exactly(asked);
                true
            }
            Token::Above(_) => false,
        }
    }

    /// Whether it is greater than another; of one that nobody knows the guess.
    pub(super) fn is_above(self, other: u64, guess: bool) -> bool {
        match self {
            Token::Exactly(token) => token > other,
            Token::Above(floor) => floor >= other || guess,
        }
    }
}
