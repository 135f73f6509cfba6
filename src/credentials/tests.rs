use std::sync::Arc;

use super::*;

/// Hashes of the same password by libxcrypt, with each prefix and two costs.
const HASHES: [&str; 4] = [
    "$2b$04$DCq7YPn5Rq63x1Lad4cll..B5WFVPnYJVH.PLKCr5kRSbWcFWwXDO",
    "$2y$05$DCq7YPn5Rq63x1Lad4cll.HBDohiHssWWTvAkR0t7BcDSKBnDJsfK",
    "$2a$06$DCq7YPn5Rq63x1Lad4cll.YqDJNyLgx7gs7qwG5MmttaiQ8h6GFJi",
    "$2b$12$DCq7YPn5Rq63x1Lad4cll.dhOndCSKb4ubXlkSIL7CigfHkrm/V2m",
];
const PASSWORD: &str = "right horse";

fn login(user: &str, password: &str) -> Login {
    Login {
        user: user.as_bytes().into(),
        password: password.as_bytes().into(),
    }
}

fn gate(file: &str) -> Arc<Gate> {
    let users = Users::parse(file).unwrap();
    let checker = Checker::start().unwrap();
    Arc::new(Gate::new(Arc::new(users), Arc::new(checker)))
}

fn check(gate: &Arc<Gate>, user: &str, password: &str) -> Result<(), Unauthorized> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let client = IpAddr::from([10, 0, 0, 7]);
    let check = gate.check(client, login(user, password));
    builder.build().unwrap().block_on(check)
}

#[test]
fn hashes_of_another_implementation_hold_for_their_password_alone() {
    for hash in HASHES {
        let gate = gate(&format!("agent:{hash}\n"));
        // The second time from memory.
        for _ in 0..2 {
            assert_eq!(check(&gate, "agent", PASSWORD), Ok(()), "{hash}");
            let wrong = Err(Unauthorized::Wrong);
            assert_eq!(check(&gate, "agent", "wrong horse"), wrong);
        }
        assert_eq!(check(&gate, "agents", PASSWORD), Err(Unauthorized::Wrong));
        assert_eq!(check(&gate, "", PASSWORD), Err(Unauthorized::Wrong));
        assert_eq!(check(&gate, "agent", ""), Err(Unauthorized::Wrong));
        let split = check(&gate, "agentr", "ight horse");
        assert_eq!(split, Err(Unauthorized::Wrong));
    }
}

#[test]
fn every_part_of_a_hash_counts() {
    let (first, last) = (HASHES[0].len() - 31, HASHES[0].len() - 1);
    for at in [first, first + 15, last] {
        let mut hash = HASHES[0].to_owned();
        // The last character has four bits, so its lowest two are zero.
        hash.replace_range(at..=at, if &hash[at..=at] == "O" { "K" } else { "O" });
        let gate = gate(&format!("agent:{hash}\n"));
        let wrong = Err(Unauthorized::Wrong);
        assert_eq!(check(&gate, "agent", PASSWORD), wrong, "{hash}");
    }
}

#[test]
fn each_user_has_a_password_of_its_own() {
    // The second one is "other".
    let other = "$2b$04$DCq7YPn5Rq63x1Lad4cll.O3sPRSdNHRG8PVHCT9BhYv1rgb7kzqi";
    let file = format!("# fleet\n\n one:{}\r\ntwo:{other}\n", HASHES[0]);
    let gate = gate(&file);
    assert_eq!(check(&gate, " one", PASSWORD), Ok(()));
    assert_eq!(check(&gate, "two", "other"), Ok(()));
    assert_eq!(check(&gate, "two", PASSWORD), Err(Unauthorized::Wrong));
    assert_eq!(check(&gate, " one", "other"), Err(Unauthorized::Wrong));
}

#[test]
fn bytes_behind_the_72nd_of_a_password_do_not_count_as_with_htpasswd() {
    let long = "p".repeat(80);
    let gate = gate("agent:$2b$04$DCq7YPn5Rq63x1Lad4cll.T5kTAL7bKNPIbkuSVHfk5sl.Q68Jole");
    assert_eq!(check(&gate, "agent", &long), Ok(()));
    assert_eq!(check(&gate, "agent", &long[..72]), Ok(()));
    assert_eq!(check(&gate, "agent", &long[..71]), Err(Unauthorized::Wrong));
}

fn faults(file: &str) -> Vec<(Option<usize>, String)> {
    let faults = Users::parse(file).unwrap_err();
    let faults = faults.into_iter();
    faults.map(|fault| (fault.line, fault.message)).collect()
}

#[test]
fn each_line_that_is_wrong_is_reported_with_its_number_and_nothing_of_its_content() {
    let fine = HASHES[0];
    let costly = HASHES[3].replace("$12$", "$13$");
    let cheap = fine.replace("$04$", "$03$");
    let text = format!(
        "# comment\nsecret\n:{fine}\none:{fine}\ntwo:secret\none:{fine}\nthree:{costly}\nfour:{cheap}\n\
         five:$apr1$salt$secret\nsix:{fine}x\nseven:{}\neight:$2x$04${}\n{}:{fine}\n",
        &fine[..59],
        &fine[7..],
        "u".repeat(256),
    );
    let no_hash = "has no bcrypt hash";
    let wanted = [
        (2, "has no colon"),
        (3, "has no user before its colon"),
        (5, no_hash),
        (6, "has the same user as line 4"),
        (7, "has a bcrypt hash of cost 13"),
        (8, "has a bcrypt hash of cost 3"),
        (9, no_hash),
        (10, no_hash),
        (11, no_hash),
        (12, no_hash),
        (13, "has a user of more than 255 bytes"),
    ];
    let wanted = wanted.map(|(line, message)| (Some(line), message.to_owned()));
    assert_eq!(faults(&text), wanted);
}

#[test]
fn a_file_has_from_1_to_10000_users() {
    for empty in ["", "\n\n", "# agent:hash\n"] {
        assert_eq!(faults(empty), [(None, "has no users".to_owned())]);
    }
    let users = |count: usize| -> String {
        let lines = (0..count).map(|number| format!("agent-{number}:{}\n", HASHES[0]));
        lines.collect()
    };
    assert!(Users::parse(&users(10_000)).is_ok());
    let many = (None, "has more than 10000 users".to_owned());
    assert_eq!(faults(&users(10_001)), [many]);
    assert_eq!(faults(&"x\n".repeat(100_000)).len(), 50);
}

#[test]
fn invariant_14_debug_shows_neither_users_nor_hashes() {
    let gate = gate(&format!("agent:{}", HASHES[0]));
    assert_eq!(format!("{gate:?}"), "1 users");
}

/// Otherwise the time of its checks would tell that nobody has its name: it would be none, or change with the password,
/// which that of a known user does not.
#[test]
fn an_unknown_user_costs_one_check_and_the_same_with_every_password() {
    let gate = gate(&format!("one:{}\ntwo:{}\n", HASHES[0], HASHES[1]));
    let cost = |user: &str, password: &str| {
        let login = login(user, password);
        let (costs, is_let_in) = gate.users.costs_of(&login, gate.of_user(&login));
        assert_eq!(costs.len(), 1, "{user}");
        assert_eq!(is_let_in, ["one", "two"].contains(&user), "{user}");
        costs[0]
    };
    let mut costs = Vec::new();
    for number in 0..64 {
        let user = format!("nobody-{number}");
        let same = cost(&user, PASSWORD);
        for other in 0..8 {
            assert_eq!(cost(&user, &other.to_string()), same, "{user}");
        }
        costs.push(same);
    }
    assert!(costs.contains(&4) && costs.contains(&5));
    assert_eq!((cost("one", ""), cost("two", "")), (4, 5));
}

#[test]
fn a_byte_order_mark_is_not_a_part_of_the_first_user() {
    let gate = gate(&format!("\u{feff}agent:{}\n", HASHES[0]));
    assert_eq!(check(&gate, "agent", PASSWORD), Ok(()));
}
