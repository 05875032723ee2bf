//! What a log gives back, whole and damaged.

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::FieldRef;

use super::frame::FrameHead;
use super::*;
use crate::model::{Batch, Ends, Labels, Rows, SeriesId, Table, Timestamp};
use crate::world::SimDisk;

fn batch(values: &[f64]) -> Batch {
    let (source, arrived) = ("scrape é".into(), Timestamp::from_nanos(1_700_000_000_123_456_789));
    let mut batch = Batch { source, arrived, ..Batch::default() };
    for (at, &value) in values.iter().enumerate() {
        batch.push(SeriesId(at as u32 * 7 % 5), Timestamp::from_nanos(i64::MAX - at as i64 * 3), value);
    }
    batch
}

fn path() -> PathBuf {
    wal_path(Path::new("/wal"), 3)
}

fn written(batches: &[Batch]) -> SimDisk {
    let disk = SimDisk::new();
    let mut wal = WalWriter::create(&disk, Path::new("/wal"), 3, 40).unwrap();
    let def = [SeriesDef::new("m", Labels::new([("a", "b")]))];
    for batch in batches {
        wal.append(&NewSeries { first: 5, defs: &def }, &encode_batch(batch)).unwrap();
    }
    disk
}

const VALUES: [f64; 10] =
    [0.0, -0.0, 1.0, -1.0, 1.5, f64::MAX, 9_007_199_254_740_991.0, 9_007_199_254_740_993.0, -64.0, 1e300];

#[test]
fn frames_say_where_and_when_a_batch_came() {
    let times = [0, 1, -1, i64::MIN, i64::MAX].map(Timestamp::from_nanos);
    let long = "x".repeat(300);
    let from = |(source, arrived): (&str, Timestamp)| Batch { source: source.into(), arrived, ..batch(&[1.0]) };
    let mut batches: Vec<Batch> = ["", "10.0.0.7", "é", "\0", &long].into_iter().zip(times).map(from).collect();
    batches.push(Batch::default());
    let mut ends = Ends::default();
    ends.push(SeriesId(4), Timestamp::from_nanos(9));
    let schema = Table::Zones.schema();
    let one = |field: &FieldRef| cast(&Int64Array::from(vec![1]), field.data_type()).unwrap();
    let zones = RecordBatch::try_new(schema.clone(), schema.fields().iter().map(one).collect()).unwrap();
    let mut beside = Batch { source: "own".into(), ..Batch::default() };
    beside.rows.extend(ends.take().into_iter().chain([Rows { table: Table::Zones, batch: zones }]));
    batches.push(beside);
    let disk = written(&batches);
    let frames: Vec<Frame> = WalReader::open(&disk, &path(), Some(40)).unwrap().map(Result::unwrap).collect();
    assert_eq!(frames.iter().map(|frame| &frame.batch).collect::<Vec<_>>(), batches.iter().collect::<Vec<_>>());
    let ends: Vec<usize> = frames.iter().map(Frame::series_end).collect();
    assert_eq!(ends, [1, 1, 1, 1, 1, 0, 5], "rows without a series name none");
}

#[test]
fn a_payload_that_ends_early_or_names_no_text_is_none() {
    let of = |batch: &Batch| {
        let mut payload = Vec::new();
        payload::encode(&NewSeries { first: 0, defs: &[] }, &encode_batch(batch), &mut payload);
        payload
    };
    let whole = of(&batch(&[1.5, 2.0]));
    assert!(payload::decode(&whole).is_some());
    (0..whole.len()).for_each(|len| assert_eq!(payload::decode(&whole[..len]), None, "{len} bytes"));
    // Behind the definitions, of which there are none, and the length of the name.
    let mut other = whole;
    other[3] = 0xFF;
    assert_eq!(payload::decode(&other), None);
    other[2] = 0x7F;
    assert_eq!(payload::decode(&other), None, "a name that is longer than all");
}

/// Three frames, and where each ends.
fn three() -> (SimDisk, [usize; 4]) {
    let batches = [batch(&VALUES), batch(&[2.0]), batch(&[3.5, 4.0])];
    let length = |frames: usize| written(&batches[..frames]).open(&path()).unwrap().len() as usize;
    (written(&batches), [length(0), length(1), length(2), length(3)])
}

/// The last value of each frame, and what the reader found wrong.
fn read(disk: &SimDisk) -> (Vec<f64>, WalReader) {
    let mut reader = WalReader::open(disk, &path(), Some(40)).unwrap();
    let values = reader.by_ref().map(|frame| *frame.unwrap().batch.values.last().unwrap()).collect();
    (values, reader)
}

#[test]
fn frames_read_back_bit_for_bit() {
    let disk = written(&[batch(&VALUES), batch(&[2.0])]);
    let frames: Vec<Frame> = WalReader::open(&disk, &path(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].batch, batch(&VALUES));
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&frames[0].batch.values), bits(&VALUES));
    assert_eq!((frames[1].first_def, &*frames[1].defs[0].metric), (5, "m"));
}

#[test]
fn every_cut_is_a_write_that_did_not_end() {
    let (whole, ends) = three();
    for at in 0..ends[3] {
        let (disk, _) = three();
        disk.truncate(&path(), at as u64).unwrap();
        let (values, reader) = read(&disk);
        let before = ends[1..].iter().filter(|&&end| end <= at).count();
        assert_eq!(values, [1e300, 2.0, 4.0][..before], "cut at {at}");
        let harms: Vec<Harm> = reader.faults.iter().map(|fault| fault.harm).collect();
        let wanted = if ends.contains(&at) { vec![] } else { vec![Harm::Torn] };
        assert_eq!(harms, wanted, "cut at {at}");
    }
    assert_eq!(read(&whole).0, [1e300, 2.0, 4.0]);
}

#[test]
fn a_flipped_byte_costs_its_frame_at_most_and_is_told() {
    let (_, ends) = three();
    for at in 0..ends[3] {
        let (disk, _) = three();
        disk.corrupt(&path(), at, 0x10);
        let (values, reader) = read(&disk);
        let frame = ends.iter().filter(|&&end| end <= at).count();
        let in_head = at < ends[0] || at - ends[frame - 1] < FrameHead::LEN;
        let mut wanted = vec![1e300, 2.0, 4.0];
        if !in_head {
            wanted.remove(frame - 1);
        }
        assert_eq!(values, wanted, "flipped at {at}");
        let harm = if in_head { Harm::Mended } else { Harm::Lost { frames: Some(1) } };
        assert_eq!(reader.faults.iter().map(|fault| fault.harm).collect::<Vec<_>>(), [harm], "flipped at {at}");
        assert_eq!(reader.sequence, Some(43));
    }
}

#[test]
fn a_wiped_stretch_is_passed_and_its_frames_counted() {
    let (disk, ends) = three();
    (ends[0]..ends[2]).for_each(|at| disk.corrupt(&path(), at, 0xA5));
    let (values, reader) = read(&disk);
    assert_eq!(values, [4.0]);
    let len = (ends[2] - ends[0]) as u64;
    assert_eq!(reader.faults, [Fault { offset: ends[0] as u64, len, harm: Harm::Lost { frames: Some(2) } }]);
}

#[test]
fn frames_of_which_nothing_is_left_are_missed() {
    let (disk, ends) = three();
    let mut reader = WalReader::open(&disk, &path(), Some(37)).unwrap();
    assert_eq!(reader.by_ref().count(), 3);
    assert_eq!(reader.faults, [Fault { offset: ends[0] as u64, len: 0, harm: Harm::Lost { frames: Some(3) } }]);
}
