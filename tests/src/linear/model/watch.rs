//! Watches: each is told every change behind what it knows, in their order; one that is not
//! progressive the first of them.

use super::Key;
use crate::linear::history::{Action, Reply};
use crate::linear::known::Known;

/// An open watch of which more is known than that it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watching {
    /// Its place in the history.
    pub at: usize,
    /// How many changes it was told.
    told: usize,
}

impl Watching {
    /// When it is told something next.
    pub fn next_answer(self, known: &Known) -> Option<u64> {
        if let Some(news) = known.news(self.at, self.told) {
            return Some(news.at);
        }
        let op = known.ops.get(self.at)?;
        op.reply.map(|(returned, _)| returned)
    }

    fn is_told_all(self, known: &Known) -> bool {
        known.news(self.at, self.told).is_none()
    }

    /// Whether anything that is known of it is yet to happen.
    fn goes_on(self, known: &Known) -> bool {
        !self.is_told_all(known) || known.is_ended(self.at)
    }
}

impl Key {
    pub(super) fn watch(
        &mut self,
        known: &Known,
        at: usize,
        (after, progressive): (Option<u64>, bool),
        guess: bool,
    ) -> Option<()> {
        let is_news = after.is_some_and(|after| self.token.is_above(after, guess));
        let mut watching = Watching { at, told: 0 };
        if is_news {
            if !self.tell_one(known, &mut watching)? {
                return Some(());
            }
            // What it was told is newer indeed.
            let is_newer = after.is_some_and(|after| self.token.is_above(after, false));
            is_newer.then_some(())?;
            if !progressive {
                return Some(());
            }
        }
        if watching.goes_on(known) {
            self.watching.push(watching);
        }
        Some(())
    }

    /// Tells a watch what the key holds now, as far as it is known what it was told. Answers whether
    /// that is known.
    fn tell_one(&mut self, known: &Known, watching: &mut Watching) -> Option<bool> {
        let Some(news) = known.news(watching.at, watching.told) else {
            return (!known.is_ended(watching.at)).then_some(false);
        };
        self.token = self.token.read(news.token)?;
        watching.told += 1;
        (news.value == self.value).then_some(true)
    }

    /// Tells everybody who watches.
    pub(super) fn tell(&mut self, known: &Known) -> Option<()> {
        for mut watching in std::mem::take(&mut self.watching) {
            let is_known = self.tell_one(known, &mut watching)?;
            let progressive = known.ops.get(watching.at).is_some_and(|op| {
                matches!(
                    op.action,
                    Action::Watch {
                        progressive: true,
                        ..
                    }
                )
            });
            if is_known && progressive && watching.goes_on(known) {
                self.watching.push(watching);
            }
        }
        Some(())
    }

    /// A watch ends by time or by order.
    pub(super) fn stop_watching(&mut self, known: &Known, at: usize) -> Option<()> {
        let place = self.watching.iter().position(|w| w.at == at)?;
        let watching = self.watching.remove(place);
        watching.is_told_all(known).then_some(())
    }

    /// Watches end with their sessions: they were told before whatever they were told.
    pub(super) fn stop_all_watching(
        &mut self,
        known: &Known,
        ends: impl Fn(usize) -> bool,
    ) -> Option<()> {
        let is_answered = |at| matches!(known.reply(at), Some(Reply::TimedOut));
        let is_cut = |w: &Watching| ends(w.at) && (!w.is_told_all(known) || is_answered(w.at));
        if self.watching.iter().any(is_cut) {
            return None;
        }
        self.watching.retain(|watching| !ends(watching.at));
        Some(())
    }
}
