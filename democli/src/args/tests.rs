use super::*;
use router_client::Place;
use serde_json::json;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_from_args(std::iter::once(&"democli").chain(line))
}

fn refused(line: &[&str]) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{line:?}");
    error.to_string()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_demo_has_its_name() {
    for line in [
        &["backend"][..],
        &["frontend"],
        &["resource-lock"],
        &["mass-publish"],
        &["metatest"],
        &["pub", "t"],
        &["sub", "t"],
        &["call", "p"],
    ] {
        assert!(parse(line).is_ok(), "{line:?}");
    }
}

#[test]
fn the_connection_may_be_told_before_and_after_the_demo() {
    for line in [
        &[
            "--url",
            "ws://h:1/x",
            "--realm",
            "r",
            "--serializer",
            "msgpack",
            "backend",
        ][..],
        &[
            "backend",
            "--server",
            "ws://h:1/x",
            "--realm",
            "r",
            "--serializer",
            "msgpack",
        ],
        &[
            "backend",
            "-s",
            "ws://h:1/x",
            "--realm",
            "r",
            "--serializer",
            "msgpack",
        ],
    ] {
        let connect = parse(line).unwrap().connect;
        assert_eq!(connect.url.place(), &Place::Tcp("h".into(), 1));
        assert_eq!(connect.realm, "r");
        assert_eq!(connect.serializer, Serializer::Msgpack);
        assert_eq!(connect.credentials(), Credentials::Anonymous);
    }
}

#[test]
fn user_and_ticket_belong_together() {
    let line = ["--authid", "joe", "backend", "--ticket", "secret"];
    let expected = Credentials::Ticket {
        authid: "joe".into(),
        ticket: "secret".into(),
    };
    assert_eq!(parse(&line).unwrap().connect.credentials(), expected);
    assert!(refused(&["backend", "--authid", "joe"]).contains("--ticket"));
    assert!(refused(&["backend", "--ticket", "secret"]).contains("--authid"));
}

#[test]
fn wrong_command_lines_are_refused() {
    for line in [
        &[][..],
        &["nothing"],
        &["backend", "--url", "http://h/"],
        &["backend", "--serializer", "xml"],
        &["resource-lock", "--hold-secs", "-1"],
        &["resource-lock", "--rounds", "0"],
        &["mass-publish", "--count", "0"],
        &["mass-publish", "--window", "0"],
        &["pub"],
        &["pub", "t", "--kwargs", "[]"],
        &["pub", "t", "--kwargs", "{"],
        &["pub", "t", "--when", "null"],
        &["pub", "t", "--will", "null"],
        &["pub", "t", "--retain", "--watch"],
        &["pub", "t", "--retain", "--when", "open"],
        &["pub", "t", "--qos", "3"],
        &["sub", "t", "--match", "regex"],
        &["sub", "t", "--filter", "{"],
        &["call"],
    ] {
        refused(line);
    }
}

fn published(line: &[&str]) -> Publish {
    let line: Vec<&str> = ["pub", "t"].iter().chain(line).copied().collect();
    match parse(&line).unwrap().demo {
        Demo::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_are_json_or_else_text() {
    let line = [
        "1",
        "-2.50",
        "hello",
        "\"quoted\"",
        "{\"b\":1,\"a\":2}",
        "null",
        "a\"b",
        "",
    ];
    let arguments = published(&line).arguments().unwrap();
    assert_eq!(
        arguments.args_text(),
        r#"[1,-2.50,"hello","quoted",{"b":1,"a":2},null,"a\"b",""]"#
    );
    assert_eq!(arguments.kwargs_text(), "{}");
    let arguments = published(&["--kwargs", "{\"z\": 1, \"a\": 2}"]).arguments();
    assert_eq!(arguments.unwrap().kwargs_text(), r#"{"z":1,"a":2}"#);
}

#[test]
fn an_argument_cannot_leave_its_place() {
    // Not one JSON value, so it is text and not three arguments.
    let arguments = published(&["1,2", "],["]).arguments().unwrap();
    assert_eq!(arguments.args_text(), r#"["1,2","],["]"#);
}

#[test]
fn options_are_sent_only_when_given() {
    assert_eq!(published(&[]).options(), Dict::new());
    let line = "--retain --when null --watch --watch-timeout 5 --will {\"a\":1} --will-on lost \
                --merge --trace --include-me --qos 2";
    let line: Vec<&str> = line.split_whitespace().collect();
    let expected = json!({
        "retain": true, "when": null, "watch": true, "watch_timeout": 5, "will": {"a": 1},
        "will_on": "lost", "merge": true, "trace": true, "exclude_me": false, "x_qos": 2,
    });
    assert_eq!(Value::from(published(&line).options()), expected);
}

#[test]
fn a_subscription_has_the_options_given() {
    let options = |line: &[&str]| {
        let line: Vec<&str> = ["sub", "t"].iter().chain(line).copied().collect();
        match parse(&line).unwrap().demo {
            Demo::Subscribe(subscribe) => Value::from(subscribe.options()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(options(&[]), json!({}));
    for kind in ["exact", "prefix", "wildcard"] {
        assert_eq!(options(&["--match", kind]), json!({"match": kind}));
    }
    assert_eq!(
        options(&[
            "--retained",
            "--after",
            "7",
            "--snapshot",
            "--filter",
            "{\"a\":1}"
        ]),
        json!({"retained": true, "after": 7, "snapshot": true, "filter": {"a": 1}})
    );
}
