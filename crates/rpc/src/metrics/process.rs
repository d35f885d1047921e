//! `process_*` and `os_fd_*`: what the kernel says about this process.

use prometheus::IntGauge;
use prometheus::core::Desc;
use prometheus::proto::{Counter, Metric, MetricFamily, MetricType};

/// Reads `/proc/self` at every scrape.
pub(super) struct Collector {
    gauges: Vec<(Fact, IntGauge)>,
    cpu: Desc,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    ResidentBytes,
    VirtualBytes,
    VirtualMaxBytes,
    StartTime,
    OpenFiles,
    MaxFiles,
}

const CPU: &str = "process_cpu_seconds_total";
const CPU_HELP: &str = "CPU time of all threads, user and system.";

const GAUGES: [(Fact, &str, &str); 8] = [
    (Fact::ResidentBytes, "process_resident_memory_bytes", "Resident memory."),
    (Fact::VirtualBytes, "process_virtual_memory_bytes", "Virtual memory."),
    (Fact::VirtualMaxBytes, "process_virtual_memory_max_bytes", "Limit of virtual memory."),
    (Fact::StartTime, "process_start_time_seconds", "Unix time at which the process began."),
    (Fact::OpenFiles, "process_open_fds", "Open file descriptors."),
    (Fact::MaxFiles, "process_max_fds", "Limit of file descriptors."),
    (Fact::OpenFiles, "os_fd_used", "File descriptors in use."),
    (Fact::MaxFiles, "os_fd_limit", "Limit of file descriptors."),
];

impl Collector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let mut gauges = Vec::with_capacity(GAUGES.len());
        for (fact, name, help) in GAUGES {
            gauges.push((fact, IntGauge::new(name, help)?));
        }
        let cpu = Desc::new(CPU.to_owned(), CPU_HELP.to_owned(), Vec::new(), [].into())?;
        Ok(Self { gauges, cpu })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges.iter().flat_map(|(_, gauge)| gauge.desc());
        gauges.chain([&self.cpu]).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = Stat::read();
        let limits = (
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            rustix::process::getrlimit(rustix::process::Resource::As).current,
        );
        let mut families = Vec::with_capacity(self.gauges.len() + 1);
        for (fact, gauge) in &self.gauges {
            gauge.set(match fact {
                Fact::ResidentBytes => stat.resident_bytes,
                Fact::VirtualBytes => stat.virtual_bytes,
                Fact::VirtualMaxBytes => limits.1.map_or(-1, saturate),
                Fact::StartTime => stat.start_time,
                Fact::OpenFiles => stat.open_files,
                Fact::MaxFiles => limits.0.map_or(i64::MAX, saturate),
            });
            families.extend(gauge.collect());
        }
        families.push(cpu_family(stat.cpu_seconds));
        families
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn cpu_family(seconds: f64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(seconds);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    let mut family = MetricFamily::default();
    family.set_name(CPU.to_owned());
    family.set_help(CPU_HELP.to_owned());
    family.set_field_type(MetricType::COUNTER);
    family.set_metric(vec![metric]);
    family
}

/// What `/proc/self/stat`, `/proc/stat` and `/proc/self/fd` say; zeros where they cannot be read.
#[derive(Default)]
pub(super) struct Stat {
    cpu_seconds: f64,
    pub(super) threads: i64,
    pub(super) resident_bytes: i64,
    virtual_bytes: i64,
    start_time: i64,
    open_files: i64,
}

impl Stat {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
    pub(super) fn read() -> Self {
        let text = read_file(c"/proc/self/stat");
        // The command name may hold spaces and parentheses; the fields after it are numbers.
        let Some((_, fields)) = text.rsplit_once(')') else { return Self::default() };
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The first of them is field 3 of proc_pid_stat(5).
        let field =
            |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0);
        let ticks: i64 = saturate(rustix::param::clock_ticks_per_second()).max(1);
        let page = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Self {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks as f64,
            threads: field(20),
            start_time: boot_time() + field(22) / ticks,
            virtual_bytes: field(23),
            resident_bytes: field(24).saturating_mul(page),
            open_files: open_files(),
        }
    }
}

fn boot_time() -> i64 {
    let text = read_file(c"/proc/stat");
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

fn open_files() -> i64 {
    use rustix::fs::{Dir, Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = open(c"/proc/self/fd", flags, Mode::empty()) else { return 0 };
    let Ok(entries) = Dir::read_from(&folder) else { return 0 };
    // Without ".", ".." and the descriptors that this count itself holds open.
    let own = 4;
    i64::try_from(entries.count()).unwrap_or(i64::MAX).saturating_sub(own).max(0)
}

fn read_file(path: &std::ffi::CStr) -> String {
    use rustix::fs::{Mode, OFlags, open};
    let Ok(file) = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return String::new();
    };
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = rustix::io::read(&file, &mut chunk) {
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else { break };
        bytes.extend_from_slice(part);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
