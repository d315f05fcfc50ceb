//! What waits on disk while the server is away: reloads neither lose nor double it, whatever they change.
//!
//! `flush_every` is short, so that what is taken is soon in the segments.

use super::support::proxy::Proxy;
use super::support::wait_for;
use super::{Gateway, Mosquitto, Recipe, config, counter, counts, payloads, topic, wait_for_count, wait_for_empty};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The files of readings that wait.
fn segments(gate: &Gateway) -> Vec<std::fs::Metadata> {
    let files = std::fs::read_dir(gate.file("state/buffer")).into_iter().flatten().flatten();
    let segments = files.filter(|file| Path::new(&file.file_name()).extension().is_some_and(|end| end == "log"));
    segments.filter_map(|file| file.metadata().ok()).collect()
}

/// Waits until so many bytes of readings are on disk.
fn wait_for_bytes(gate: &Gateway, bytes: u64) {
    let written = || segments(gate).iter().map(std::fs::Metadata::len).sum::<u64>();
    wait_for(&format!("{bytes} bytes on disk"), || (written() >= bytes).then_some(()));
}

#[test]
fn history_on_disk_goes_to_the_topics_it_was_taken_for() {
    let server = Mosquitto::start();
    let link = Proxy::to(server.port());
    let fence = format!("[buffer]\nflush_every = \"100ms\"\n{}", counter("fence", 20));
    let old = config(link.port(), &format!("{}{fence}", counter("ticks", 20)));
    let moved = "[sensors.ticks.readings.count]\ntopic = \"house/ticks\"\n";
    let moved = config(link.port(), &format!("{fence}{}{moved}", counter("ticks", 20)));
    let without = config(link.port(), &fence);
    let watch = server.subscribe(&["board2mqtt/gate/#", "house/#"]);
    let gate = Gateway::start(Recipe::new(&old));
    let ticks = topic("ticks/count");
    wait_for_count(&watch, &ticks, 5);
    link.refuse(true);
    link.cut();
    gate.wait_for_log("no connection to the server", 1);
    let mut bytes = 0;
    let mut wait_for_more = || {
        bytes += 2 * 32 * 20;
        wait_for_bytes(&gate, bytes);
    };
    wait_for_more();
    for _ in 0..20 {
        gate.reload(&old);
    }
    wait_for_more();
    gate.reload(&moved);
    wait_for_more();
    gate.reload(&without);
    wait_for_more();
    link.refuse(false);
    wait_for_empty(&server, &ticks);
    wait_for_empty(&server, "house/ticks");
    let fences = || counts(&watch.messages(), &topic("fence/count"));
    wait_for("the whole history", || {
        let seen: BTreeSet<u64> = fences().into_iter().collect();
        let whole = (1..=*seen.last()?).all(|count| seen.contains(&count));
        (whole && !payloads(&watch, "house/ticks/history").is_empty()).then_some(())
    });
    let messages = watch.messages();
    let [before, after] = [ticks.as_str(), "house/ticks"].map(|topic| {
        // The empty message that ends a topic is no count.
        let full: Vec<_> = messages.iter().filter(|message| !message.payload.is_empty()).cloned().collect();
        counts(&full, topic).into_iter().collect::<BTreeSet<u64>>()
    });
    assert!(before.last() < after.first(), "{before:?}\n{after:?}");
    let all: Vec<u64> = before.into_iter().chain(after).collect();
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "first under the one name, then under the other");
    assert_eq!(gate.logged("lost"), 0);
}

#[test]
fn a_smaller_limit_frees_the_disk_at_once_and_a_larger_one_takes_more() {
    let server = Mosquitto::start();
    let link = Proxy::to(server.port());
    let counters: String = (0..50).map(|number| counter(&format!("c{number}"), 20)).collect();
    let with = |size: &str, more: &str| {
        let metrics = "[metrics]\ninterval = \"1s\"\n";
        config(
            link.port(),
            &format!(
                "{metrics}[buffer]\nflush_every = \"200ms\"\nmax_size = \"{size}\"\ndrain = \"100000/s\"\n{more}{counters}"
            ),
        )
    };
    link.refuse(true);
    let gate = Gateway::start(Recipe::new(&with("64MiB", "")));
    wait_for_bytes(&gate, 150_000);
    let taken_up = || segments(&gate).iter().map(|file| file.blocks() * 512).sum::<u64>();
    gate.reload(&with("64KiB", ""));
    wait_for("the space to be given back", || (taken_up() <= 64 << 10).then_some(()));
    // Reload for reload, the limit holds while readings go on.
    for round in 0..5 {
        gate.reload(&with("64KiB", if round % 2 == 0 { "max_age = \"1h\"\n" } else { "" }));
        assert!(taken_up() <= 64 << 10);
    }
    gate.reload(&with("64MiB", ""));
    wait_for_bytes(&gate, 150_000);
    let watch = server.subscribe(&["board2mqtt/gate/c0/#", &topic("metrics")]);
    link.refuse(false);
    let newest = || *counts(&watch.messages(), &topic("c0/count")).iter().max().unwrap_or(&0);
    wait_for("all that was kept", || {
        let seen: BTreeSet<u64> = counts(&watch.messages(), &topic("c0/count")).into_iter().collect();
        let first = *seen.first()?;
        (first > 1 && first + 50 < newest() && (first..=newest()).all(|count| seen.contains(&count))).then_some(())
    });
    watch.wait_until("the loss in the metrics", |messages| {
        let metrics = messages.iter().rfind(|message| message.topic == topic("metrics"))?;
        let metrics: serde_json::Value = serde_json::from_str(&metrics.payload).expect("an object");
        (metrics["dropped"].as_u64()? > 1_000).then_some(())
    });
}
