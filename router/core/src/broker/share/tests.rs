use super::*;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// A group whose members do as told.
struct Group {
    rota: Rota,
    standings: Vec<Standing>,
    random: StdRng,
    asked: usize,
}

impl Group {
    fn of(standings: Vec<Standing>) -> Group {
        let mut rota = Rota::default();
        for _ in &standings {
            rota.join(true);
        }
        Group {
            rota,
            standings,
            random: StdRng::seed_from_u64(5),
            asked: 0,
        }
    }

    fn pick(&mut self, strategy: ShareStrategy, reach: Reach, windowed: bool) -> Picked {
        let Group {
            rota,
            standings,
            random,
            asked,
        } = self;
        let mut standing = |place: usize| {
            *asked += 1;
            standings[place]
        };
        rota.pick(strategy, reach, windowed, random, &mut standing)
    }

    fn place(&mut self, strategy: ShareStrategy) -> Option<usize> {
        self.pick(strategy, Reach::Overflow, true).place
    }

    fn places(&mut self, strategy: ShareStrategy, count: usize) -> Vec<usize> {
        (0..count).filter_map(|_| self.place(strategy)).collect()
    }

    fn set(&mut self, place: usize, standing: Standing) {
        self.standings[place] = standing;
        if matches!(standing, Standing::Ready(_) | Standing::Busy(_)) {
            self.rota.ready(place);
        }
    }

    fn leave(&mut self, place: usize) {
        self.rota.leave(place);
        self.standings.swap_remove(place);
    }

    fn join(&mut self, standing: Standing) {
        let connected = matches!(standing, Standing::Ready(_) | Standing::Busy(_));
        self.rota.join(connected);
        self.standings.push(standing);
    }
}

const IDLE: Standing = Standing::Ready(0);

#[test]
fn a_group_has_its_own_strategy_or_that_of_all() {
    let by_group = HashMap::from([("g".into(), ShareStrategy::Sticky)]);
    let sharing = Sharing {
        default: ShareStrategy::Random,
        by_group,
    };
    assert_eq!(sharing.of("g"), ShareStrategy::Sticky);
    assert_eq!(sharing.of("h"), ShareStrategy::Random);
}

#[test]
fn round_robin_gives_everybody_a_turn() {
    let mut group = Group::of(vec![IDLE; 3]);
    assert_eq!(
        group.places(ShareStrategy::RoundRobin, 7),
        [0, 1, 2, 0, 1, 2, 0]
    );
    group.standings[1] = Standing::Barred;
    assert_eq!(group.places(ShareStrategy::RoundRobin, 3), [2, 0, 2]);
}

#[test]
fn a_sticky_group_stays_with_a_member_until_it_cannot() {
    let mut group = Group::of(vec![IDLE; 4]);
    let first = group.place(ShareStrategy::Sticky).expect("somebody");
    assert_eq!(group.places(ShareStrategy::Sticky, 3), [first; 3]);
    group.standings[first] = Standing::Barred;
    let other = group.place(ShareStrategy::Sticky).expect("somebody");
    assert_ne!(other, first);
    group.standings[first] = IDLE;
    assert_eq!(
        group.place(ShareStrategy::Sticky),
        Some(first),
        "kept from one event only"
    );
    group.standings[first] = Standing::Busy(10);
    let second = group.place(ShareStrategy::Sticky).expect("somebody");
    assert_ne!(second, first);
    group.set(first, IDLE);
    assert_eq!(group.places(ShareStrategy::Sticky, 3), [second; 3]);
    // The last member takes the place of the one that leaves.
    group.leave(if second == 0 { 1 } else { 0 });
    let now = if second == 3 { 0 } else { second };
    assert_eq!(group.place(ShareStrategy::Sticky), Some(now));
    group.leave(now);
    assert!(group.place(ShareStrategy::Sticky).is_some());
}

#[test]
fn of_two_the_less_loaded_one_is_taken() {
    let mut group = Group::of(vec![Standing::Ready(9), Standing::Ready(3)]);
    assert_eq!(group.places(ShareStrategy::LeastLoaded, 20), [1; 20]);
    let mut group = Group::of((0..8).map(Standing::Ready).collect());
    let picks = group.places(ShareStrategy::LeastLoaded, 400);
    assert!(!picks.contains(&7), "never the most loaded");
    let of = |place| picks.iter().filter(|p| **p == place).count();
    assert!(of(0) > of(3) && of(3) > of(6), "the less the more often");
    assert_eq!(
        Group::of(vec![Standing::Ready(9)]).place(ShareStrategy::LeastLoaded),
        Some(0)
    );
}

#[test]
fn chance_reaches_everybody_and_is_repeatable() {
    let picks = || Group::of(vec![IDLE; 5]).places(ShareStrategy::Random, 100);
    for place in 0..5 {
        assert!(picks().contains(&place));
    }
    assert_eq!(picks(), picks());
}

#[test]
fn members_that_take_no_more_are_asked_once_not_at_every_event() {
    for strategy in ShareStrategy::ALL {
        let mut group = Group::of(vec![Standing::Busy(1); 10_000]);
        group.standings[7_777] = IDLE;
        assert_eq!(group.place(strategy), Some(7_777), "{strategy:?}");
        group.asked = 0;
        for _ in 0..100 {
            assert_eq!(group.place(strategy), Some(7_777));
        }
        let more = group.asked;
        assert!(more <= 20_000, "those not met yet: {more} {strategy:?}");
        group.asked = 0;
        for _ in 0..100 {
            assert_eq!(group.place(strategy), Some(7_777));
        }
        assert!(group.asked <= 400, "{} {strategy:?}", group.asked);
    }
}

#[test]
fn few_members_with_a_full_queue_are_asked() {
    let mut group = Group::of(vec![Standing::Full; 10_000]);
    let picked = group.pick(ShareStrategy::RoundRobin, Reach::Overflow, true);
    assert!(picked.place.is_some() && picked.matched);
    assert!(group.asked <= FULL_SEEN);
    let picked = group.pick(ShareStrategy::RoundRobin, Reach::Room, true);
    assert_eq!((picked.place, picked.matched), (None, true));
}

#[test]
fn an_event_that_does_not_wait_asks_for_no_window_and_reaches_nobody_away() {
    let mut group = Group::of(vec![Standing::Absent; 1_000]);
    let picked = group.pick(ShareStrategy::RoundRobin, Reach::Overflow, false);
    assert_eq!((picked.place, picked.matched), (None, true));
    group.asked = 0;
    let picked = group.pick(ShareStrategy::RoundRobin, Reach::Overflow, false);
    assert_eq!((picked.place, picked.matched), (None, true));
    assert_eq!(group.asked, 1);
    group.set(500, IDLE);
    assert_eq!(group.place(ShareStrategy::RoundRobin), Some(500));
}

#[test]
fn a_group_whose_members_are_all_barred_is_not_matched() {
    let mut group = Group::of(vec![Standing::Barred; 3]);
    for windowed in [false, true] {
        let picked = group.pick(ShareStrategy::RoundRobin, Reach::Overflow, windowed);
        assert_eq!(picked, Picked::default());
    }
    assert_eq!(Group::of(Vec::new()).place(ShareStrategy::Random), None);
}

/// The lower the better; nothing for those that are no candidates.
fn rank(standing: Standing, reach: Reach) -> Option<u8> {
    match standing {
        Standing::Ready(_) => Some(0),
        Standing::Busy(_) => Some(1),
        Standing::Away(_) => (reach >= Reach::Room).then_some(2),
        Standing::Full => (reach == Reach::Overflow).then_some(3),
        Standing::Barred | Standing::Absent => None,
    }
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Barred),
        Just(Standing::Absent),
        Just(Standing::Full),
        (0..9_usize).prop_map(Standing::Ready),
        (0..9_usize).prop_map(Standing::Busy),
        (0..9_usize).prop_map(Standing::Away),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Join(Standing),
    Leave(usize),
    Change(usize, Standing),
    Pick(usize, Reach),
}

fn step() -> impl Strategy<Value = Step> {
    let reach = prop_oneof![
        Just(Reach::Connected),
        Just(Reach::Room),
        Just(Reach::Overflow)
    ];
    prop_oneof![
        2 => standing().prop_map(Step::Join),
        1 => (0..16_usize).prop_map(Step::Leave),
        3 => ((0..16_usize), standing()).prop_map(|(place, to)| Step::Change(place, to)),
        4 => ((0..4_usize), reach).prop_map(|(strategy, reach)| Step::Pick(strategy, reach)),
    ]
}

proptest! {
    #[test]
    fn nobody_is_picked_while_somebody_better_is_there(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let mut group = Group::of(Vec::new());
        for step in steps {
            let count = group.standings.len();
            match step {
                Step::Join(standing) if count < FULL_SEEN => group.join(standing),
                Step::Leave(place) if count > 0 => group.leave(place % count),
                Step::Change(place, standing) if count > 0 => group.set(place % count, standing),
                Step::Pick(strategy, reach) => {
                    let picked = group.pick(ShareStrategy::ALL[strategy], reach, true);
                    let ranks = group.standings.iter().map(|s| rank(*s, reach));
                    let best = ranks.flatten().min();
                    let got = picked.place.and_then(|at| rank(group.standings[at], reach));
                    prop_assert_eq!(got, best, "{:?}", &group.standings);
                    if reach > Reach::Connected {
                        let matched = group.standings.iter().any(|s| *s != Standing::Barred);
                        prop_assert_eq!(picked.matched, matched);
                    }
                    for place in picked.parked {
                        prop_assert!(!matches!(group.standings[place], Standing::Ready(_)));
                    }
                }
                _ => {}
            }
            let seats: Vec<usize> = group.rota.order.clone();
            for (seat, place) in seats.iter().enumerate() {
                prop_assert_eq!(group.rota.seats[*place], seat);
            }
            prop_assert_eq!(seats.len(), group.standings.len());
        }
    }
}
