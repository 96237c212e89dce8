// Package livelog is the way of what a step prints, from its output to the server. Each thing is
// done once:
//
//	step ──▶ Output ─────────────────────────────▶ Sink
//	         cards   takes the card out            Log      numbers the lines, spools them on disk,
//	         masker  hides the secrets                      sends them live and opens the whole
//	         lines   puts lines together           others   a terminal, for instance
//	         tail    keeps the last of them
//
// A card comes out first because its base64 would hide a secret from the mask, and because text
// that a card's escape splits in two is one text again when the mask sees it. Lines are put
// together last because a mask may hold back a part of one. What follows takes whole lines and puts
// nothing together again. The spool is the one place where a line is kept: the live lines, the
// upload and a log that a crash has left are all read from it.
//
// The one rule to keep: nothing is swallowed and nothing piles up. Every byte that a step prints is
// passed on, masked, or counted in a line that says what is missing and why; and whatever a step
// prints, the memory that its log takes is bounded.
package livelog
