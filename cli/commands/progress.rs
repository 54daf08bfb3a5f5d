//! Progress, on standard error: a line that is redrawn on a terminal, a line a minute elsewhere, or JSON.

use crate::output::one_line;
use fast_peer_core::session::Status;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// How to show progress.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// How to show progress: a bar on a terminal and a line a minute elsewhere, or a JSON object a second
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: How,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

/// Where progress is shown.
pub(crate) struct Progress {
    how: How,
    bar: Option<ProgressBar>,
    last: Option<(Instant, u64, u64)>,
    shown: Option<Instant>,
    rates: (u64, u64),
}

impl Progress {
    pub(crate) fn new(args: &Args) -> Self {
        let how = match args.progress {
            _ if args.quiet => How::None,
            How::Auto if std::io::stderr().is_terminal() => How::Bar,
            How::Auto => How::Plain,
            how => how,
        };
        let bar = (how == How::Bar).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {percent:>3}% {msg}");
            ProgressBar::new(1).with_style(style.expect("the template is fixed"))
        });
        Self { how, bar, last: None, shown: None, rates: (0, 0) }
    }

    /// Shows how far these torrents are.
    pub(crate) fn show(&mut self, torrents: &[(String, Status)]) {
        let now = Instant::now();
        let sum = |of: fn(&Status) -> u64| torrents.iter().map(|(_, status)| of(status)).sum::<u64>();
        let (down, up) = (sum(|status| status.down_bytes), sum(|status| status.up_bytes));
        if let Some((then, down_before, up_before)) = self.last {
            let millis = u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = |bytes: u64, before: u64| bytes.saturating_sub(before) * 1000 / millis;
            self.rates = (rate(down, down_before), rate(up, up_before));
        }
        self.last = Some((now, down, up));
        let every = match self.how {
            How::None => return,
            How::Json => Duration::from_secs(1),
            How::Plain => Duration::from_secs(60),
            How::Auto | How::Bar => Duration::ZERO,
        };
        let first = self.shown.is_none();
        if self.shown.is_some_and(|shown| now < shown + every) || first && self.how == How::Plain {
            if first {
                self.shown = Some(now);
            }
            return;
        }
        self.shown = Some(now);
        if self.how == How::Json {
            let values = torrents.iter().map(|(name, status)| self.to_json(name, status));
            return values.for_each(|value| eprintln!("{value}"));
        }
        let (have, wanted) = (sum(|status| status.bytes_have), sum(|status| status.bytes_wanted));
        // Nobody knows how much it will be before peers have told what the torrents hold.
        let unknown = torrents.iter().any(|(_, status)| status.metadata.is_some());
        let line = self.line(torrents, have, wanted);
        match &self.bar {
            Some(bar) => {
                bar.set_length(wanted.max(1));
                bar.set_position(have);
                bar.set_message(line);
            }
            None if unknown => eprintln!("{line}"),
            None => eprintln!("{} {line}", percent(have, wanted)),
        }
    }

    /// Writes a line without disturbing the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None if self.how == How::None || self.how == How::Json => {}
            None => eprintln!("{line}"),
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&self, torrents: &[(String, Status)], have: u64, wanted: u64) -> String {
        let (down, up) = self.rates;
        let peers: u32 = torrents.iter().map(|(_, status)| status.peers).sum();
        let mut line = format!(
            "{}/{} CN:{peers} DL:{}/s UL:{}/s",
            HumanBytes(have),
            HumanBytes(wanted),
            HumanBytes(down),
            HumanBytes(up)
        );
        if down > 0 && have < wanted {
            let eta = Duration::from_secs((wanted - have) / down);
            line += &format!(" ETA:{}", HumanDuration(eta));
        }
        if let [(name, status)] = torrents {
            line = format!("{} {line}", one_line(name));
            if let Some(looked_at) = status.checking {
                line += &format!(" checking piece {looked_at}");
            } else if let Some(waiting) = status.waiting.filter(|_| down == 0) {
                line += &format!(" ({waiting})");
            }
        } else {
            line = format!("{} torrents {line}", torrents.len());
        }
        line
    }

    fn to_json(&self, name: &str, status: &Status) -> serde_json::Value {
        json!({
            "name": name,
            "have": status.bytes_have,
            "wanted": status.bytes_wanted,
            "complete": status.complete,
            "checking": status.checking,
            "peers": status.peers,
            "seeds": status.seeds,
            "filtered": status.filtered,
            "down_bytes_per_s": self.rates.0,
            "up_bytes_per_s": self.rates.1,
            "downloaded": status.down_bytes,
            "uploaded": status.up_bytes,
            "wasted": status.wasted_bytes,
            "metadata": status.metadata.map(|metadata| json!({
                "pieces": metadata.pieces,
                "have": metadata.pieces_have,
                "peers": metadata.sources,
            })),
            "waiting": status.waiting.map(|waiting| waiting.to_string()),
        })
    }
}

fn percent(have: u64, wanted: u64) -> String {
    let percent = if wanted == 0 { 100 } else { u128::from(have) * 100 / u128::from(wanted) };
    format!("{percent}%")
}
