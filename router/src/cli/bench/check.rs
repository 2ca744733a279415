//! Whether the messages of one stream come to one receiver once and in their order.

use std::collections::VecDeque;
use std::ops::Range;

/// Gaps that are remembered. Of more, the oldest count as lost for good, and what comes out of them
/// later counts as doubled.
const GAPS_MAX: usize = 1024;

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that came for the first time.
    pub distinct: u64,
    /// Messages that had come before.
    pub doubled: u64,
    /// Messages that came behind a later one.
    pub late: u64,
}

/// One stream as one receiver sees it.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The sequence number that is to come next.
    next: u64,
    /// Numbers that were passed over, in their order.
    gaps: VecDeque<Range<u64>>,
}

impl Track {
    /// Takes in that `sequence` came; answers how far the stream moved on, what was passed over
    /// included.
    pub(super) fn arrive(&mut self, sequence: u64, counts: &mut Counts) -> u64 {
        if sequence == self.next {
            self.next += 1;
            counts.distinct += 1;
            return 1;
        }
        if sequence > self.next {
            let before = self.next;
            self.skip_to(sequence);
            counts.distinct += 1;
            return self.next - before;
        }
        if self.fill(sequence) {
            counts.distinct += 1;
            counts.late += 1;
        } else {
            counts.doubled += 1;
        }
        0
    }

    fn skip_to(&mut self, sequence: u64) {
        if self.gaps.len() == GAPS_MAX {
            self.gaps.pop_front();
        }
        self.gaps.push_back(self.next..sequence);
        self.next = sequence + 1;
    }

    /// Whether the number was missing; it is not any more.
    fn fill(&mut self, sequence: u64) -> bool {
        let at = self.gaps.partition_point(|gap| gap.end <= sequence);
        let Some(gap) = self.gaps.get(at).filter(|gap| gap.contains(&sequence)) else {
            return false;
        };
        let (low, high) = (gap.start..sequence, sequence + 1..gap.end);
        self.gaps.remove(at);
        for part in [high, low] {
            if !part.is_empty() {
                self.gaps.insert(at, part);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn counts(sequences: &[u64]) -> Counts {
        let (mut track, mut counts) = (Track::default(), Counts::default());
        for sequence in sequences {
            track.arrive(*sequence, &mut counts);
        }
        counts
    }

    #[test]
    fn what_comes_once_and_in_order_is_fine() {
        let fine = Counts {
            distinct: 4,
            ..Counts::default()
        };
        assert_eq!(counts(&[0, 1, 2, 3]), fine);
    }

    #[test]
    fn what_comes_twice_is_doubled_whenever_it_comes() {
        assert_eq!(counts(&[0, 0, 1]).doubled, 1);
        assert_eq!(counts(&[0, 1, 2, 3, 1]).doubled, 1);
        assert_eq!(counts(&[0, 3, 1, 1]).doubled, 1);
    }

    #[test]
    fn what_comes_behind_a_later_one_is_out_of_order_and_not_lost() {
        let late = Counts {
            distinct: 4,
            doubled: 0,
            late: 2,
        };
        assert_eq!(counts(&[0, 3, 2, 1]), late);
    }

    #[test]
    fn a_gap_moves_the_stream_on() {
        let (mut track, mut counts) = (Track::default(), Counts::default());
        assert_eq!(track.arrive(4, &mut counts), 5);
        assert_eq!(track.arrive(2, &mut counts), 0);
        assert_eq!(track.arrive(5, &mut counts), 1);
        assert_eq!(counts.distinct, 3);
    }

    #[test]
    fn only_so_many_gaps_are_remembered() {
        let most = GAPS_MAX as u64;
        let mut sequences: Vec<u64> = (0..=most).map(|n| 2 * n + 1).collect();
        // The oldest gap is forgotten, the newest is not.
        sequences.extend([0, 2 * most]);
        let counts = counts(&sequences);
        assert_eq!((counts.doubled, counts.late), (1, 1));
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_a_set(sequences in prop::collection::vec(0..200u64, 0..400)) {
            let mut seen = BTreeSet::new();
            let mut expected = Counts::default();
            let (mut track, mut counts) = (Track::default(), Counts::default());
            let mut reached = 0;
            for sequence in sequences {
                let is_late = seen.last().is_some_and(|last| *last > sequence);
                match seen.insert(sequence) {
                    true => {
                        expected.distinct += 1;
                        expected.late += u64::from(is_late);
                    }
                    false => expected.doubled += 1,
                }
                reached += track.arrive(sequence, &mut counts);
            }
            prop_assert_eq!(counts, expected);
            prop_assert_eq!(reached, seen.last().map_or(0, |last| last + 1));
        }
    }
}
