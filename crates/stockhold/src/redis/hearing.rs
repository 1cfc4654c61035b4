//! Hears what Redis says by itself, for as long as anybody wants to.
//!
//! On connections of its own, one to each server that takes writes. A sign of life is asked for twice a second;
//! without one for 1.5 s the link counts as down, and so it does when other members of a Cluster take writes. What was
//! said while it was, nobody has heard.

use std::{sync::Arc, time::Duration};

use ::redis::{Cmd, PushInfo, PushKind};

use super::{Redis, Trouble};
use crate::clock::{Clock, SystemClock};

/// Between two signs of life.
const PING: Duration = Duration::from_millis(500);
/// Without one for so long, it counts as down.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Between two attempts to connect, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_millis(500);

/// Whoever wants to hear.
pub(crate) trait Hearing: Send + Sync + 'static {
    /// Whether anybody still does.
    fn is_wanted(&self) -> bool;
    /// What each server is asked, so that it says anything.
    fn request(&self) -> Cmd;
    /// From now on all is heard; this was known at `sent`, on the boot clock.
    fn begins(&self, sent: Duration);
    /// All that was said before `sent` has been heard.
    fn hears(&self, sent: Duration);
    /// In the order in which a server has said it; must not wait.
    fn said(&self, push: &PushInfo);
    /// Nothing is heard any more.
    fn ends(&self, trouble: Option<&Trouble>);
}

impl Redis {
    /// Works until nobody wants to hear any more.
    pub(crate) async fn hear(self, hearing: Arc<impl Hearing>) {
        let mut pause = PAUSE;
        while hearing.is_wanted() {
            let mut has_begun = false;
            match self.hear_once(&hearing, &mut has_begun).await {
                Ok(()) => return,
                Err(trouble) => hearing.ends(Some(&trouble)),
            }
            pause = if has_begun { PAUSE } else { pause };
            SystemClock.sleep(pause).await;
            pause = pause.saturating_mul(2).min(MOST_PAUSE);
        }
    }

    /// From connecting to the end of a connection.
    async fn hear_once<H: Hearing>(
        &self,
        hearing: &Arc<H>,
        has_begun: &mut bool,
    ) -> Result<(), Trouble> {
        let on_push = {
            let hearing = Arc::clone(hearing);
            move |push: PushInfo| match push.kind {
                // Nobody would tell from now on.
                PushKind::Disconnection => hearing.ends(None),
                _ => hearing.said(&push),
            }
        };
        const LEFT: Duration = SILENCE.saturating_sub(PING);
        let mut lines = self.listen(on_push).await?;
        let count = |trouble| self.shared.count(trouble);
        lines.ask(&hearing.request(), LEFT).await.map_err(count)?;
        hearing.begins(SystemClock.boot());
        *has_begun = true;
        while hearing.is_wanted() {
            SystemClock.sleep(PING).await;
            let sent = SystemClock.boot();
            lines.sign_of_life(LEFT).await.map_err(count)?;
            hearing.hears(sent);
        }
        Ok(())
    }
}
