//! The view that fills the terminal: keys, redrawing, and the terminal as it was before, whatever happens.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::progress::on_requests;
use super::LOOK;
use super::draw::{Inks, draw};
use super::run::Watched;
use crate::error::{Error, Result};

/// Longest wait for a key: signals are seen so late.
const WAIT: Duration = Duration::from_millis(200);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Next,
    Previous,
    Nothing,
}

impl Wish {
    fn of(key: &KeyEvent) -> Self {
        match key.code {
            _ if key.kind == KeyEventKind::Release => Wish::Nothing,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Wish::Quit,
            KeyCode::Tab | KeyCode::Right | KeyCode::Down => Wish::Next,
            KeyCode::BackTab | KeyCode::Left | KeyCode::Up => Wish::Previous,
            _ => Wish::Nothing,
        }
    }
}

/// Gives the terminal back when it goes.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // There is nobody to tell that it could not be done.
        let _ = ratatui::try_restore();
    }
}

/// Shows runs until a key or a signal ends it; a panic restores the terminal before it is told.
pub(super) fn run(watched: &mut Watched) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("write", "the terminal")(error);
    let stop = Arc::new(AtomicBool::new(false));
    // Without its terminal there is nothing to do, and nothing to restore.
    on_requests(&stop)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restored = Restored;
    let inks = Inks::of_terminal();
    let (mut place, mut looked) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        if looked.elapsed() >= LOOK {
            watched.look();
            looked = Instant::now();
        }
        let views = watched.views();
        place = place.min(views.len().saturating_sub(1));
        let is_over = watched.is_over();
        terminal.draw(|frame| draw(frame, &views, place, is_over, &inks)).map_err(failed)?;
        let count = views.len().max(1);
        match next(LOOK.saturating_sub(looked.elapsed()), &stop).map_err(failed)? {
            Wish::Quit => break,
            Wish::Next => place = (place + 1) % count,
            Wish::Previous => place = (place + count - 1) % count,
            Wish::Nothing => {}
        }
    }
    Ok(())
}

/// Waits for a key, another size of the terminal, or the end of the time.
fn next(time: Duration, stop: &AtomicBool) -> std::io::Result<Wish> {
    let begin = Instant::now();
    loop {
        let left = time.saturating_sub(begin.elapsed());
        match event::poll(left.min(WAIT)) {
            Ok(true) => match event::read()? {
                Event::Key(key) => return Ok(Wish::of(&key)),
                Event::Resize(..) => return Ok(Wish::Nothing),
                _ => {}
            },
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if left.is_zero() || stop.load(Ordering::Relaxed) {
            return Ok(Wish::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_people_expect() {
        let key = |code: KeyCode| Wish::of(&KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!([KeyCode::Char('q'), KeyCode::Esc].map(key), [Wish::Quit; 2]);
        assert_eq!([KeyCode::Tab, KeyCode::Right, KeyCode::Down].map(key), [Wish::Next; 3]);
        assert_eq!([KeyCode::BackTab, KeyCode::Left, KeyCode::Up].map(key), [Wish::Previous; 3]);
        assert_eq!([KeyCode::Char('c'), KeyCode::Enter].map(key), [Wish::Nothing; 2]);
        assert_eq!(Wish::of(&KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
        let release = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(Wish::of(&release), Wish::Nothing);
    }
}
