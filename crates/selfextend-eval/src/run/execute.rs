//! Runs an evaluation, or says what that would cost.

use super::estimate::{Estimate, estimate, finished};
use super::evaluation::Evaluation;
use super::measurement::Measurement;
use super::observer::Observer;
use super::reader::Reader;
use super::schedule::{Turn, schedule, session_key};
use crate::cost::Speed;
use crate::error::Result;
use crate::record::{Outcome, Record};
use selfextend::SessionOptions;

impl Evaluation<'_> {
    /// Runs every sample under every method, except those in `done`; each result goes to `keep`
    /// as soon as it exists.
    ///
    /// # Errors
    /// A method that cannot reach a sample's context (unless that is allowed), before anything
    /// runs; whatever the engine or `keep` returns; [`selfextend::Error::Stopped`] if the
    /// observer stops the run.
    pub fn run(
        &self,
        done: &[Record],
        observer: &mut dyn Observer,
        keep: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let speed = Speed::measure(&self.model.model, self.chunk)?;
        let done = finished(done);
        observer.begin(&estimate(self, &done, speed));
        let mut measurement = Measurement::new(self.model, speed);
        for (method, turns) in self.methods.iter().zip(schedule(self, speed)) {
            let name = method.to_string();
            let mut open: Option<(String, Reader)> = None;
            for Turn { index, session } in turns {
                if done.contains(&(&*name, index)) {
                    continue;
                }
                let sample = &self.samples[index];
                observer.sample(&sample.id, &name);
                let mut record = Record::empty(sample, index, &name);
                match session {
                    Ok(options) => {
                        let reader = self.reader(&mut open, options)?;
                        measurement.measure(sample, method, reader, observer, &mut record)?;
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        record.outcome = Outcome::Unreachable { reason };
                    }
                }
                keep(&record)?;
            }
        }
        Ok(())
    }

    /// What is left to do and what it will cost, in tokens and seconds. Measures the machine's
    /// speed first, which takes the time of 260 tokens.
    ///
    /// # Errors
    /// As [`run`](Self::run), before anything runs.
    pub fn estimate(&self, done: &[Record]) -> Result<Estimate> {
        self.check()?;
        let speed = Speed::measure(&self.model.model, self.chunk)?;
        Ok(estimate(self, &finished(done), speed))
    }

    /// The session for these options: the open one, if its options are the same.
    fn reader<'r>(
        &self,
        open: &'r mut Option<(String, Reader)>,
        options: SessionOptions,
    ) -> Result<&'r mut Reader> {
        let key = session_key(self, &options);
        if open.as_ref().is_some_and(|(ours, _)| *ours != key) {
            *open = None;
        }
        let reader = match open.take() {
            Some((_, reader)) => reader,
            None => Reader::new(&self.model.model, options, self.share)?,
        };
        Ok(&mut open.insert((key, reader)).1)
    }
}
