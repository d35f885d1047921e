//! Some power failures for every build; `cargo xtask crash` has many more.

use sim::crash::history::HISTORIES;
use sim::crash::{Case, ImageId, Look, Tally, repeat};

fn look(look: Look) -> Tally {
    let mut all = Tally::default();
    for history in HISTORIES {
        all.add(Case { history, seed: 1 }.run(look));
    }
    all
}

#[test]
fn a_member_comes_back_from_any_power_failure() {
    let tally = look(Look { stride: 41, foresight: 0 });
    assert_eq!(tally.failed, []);
    assert!(tally.passed > 400, "{} images are too few to mean anything", tally.passed);
    assert!(tally.recoveries > 30, "{} images of recoveries", tally.recoveries);
}

#[test]
fn what_is_promised_too_early_is_found_lost() {
    let tally = look(Look { stride: 97, foresight: 6 });
    let lost = |(_, why): &&(ImageId, String)| {
        why.contains("is lost") || why.contains("has forgotten") || why.contains("it had entry")
    };
    assert!(tally.failed.iter().filter(lost).count() > 10, "{:?}", tally.failed);
}

#[test]
fn an_image_is_found_again_by_its_name() {
    let case = Case { history: &HISTORIES[1], seed: 1 };
    let (id, why) = case.run(Look { stride: 97, foresight: 9 }).failed.swap_remove(0);
    let id: ImageId = id.to_string().parse().expect("its own name");
    let (told, outcome) = repeat(&id).expect("it is there");
    assert!(told.contains("kept"), "{told}");
    // Without the foresight there is nothing wrong with it.
    assert_eq!(outcome, Ok(()), "{why}");
    assert!("puts:1:0.9999.0".parse().is_ok_and(|id| repeat(&id).is_err()));
    assert!("puts".parse::<ImageId>().is_err());
}
