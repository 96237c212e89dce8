// Package livelog takes what a step prints on its way to the server: the card is taken out (Cards), the secrets are masked (Masker), and what is left
// is split into numbered lines that are spooled on disk and sent live, in batches, while the step runs (Log).
//
// The writers stand in this order, and are closed in it:
//
//	step → Cards → Masker → Log → server
//
// A card comes out first because its base64 would hide a secret from the mask, and because text that a card's escape splits in two is one text again
// when the mask sees it.
//
// The one rule to keep: nothing is swallowed and nothing piles up. Every byte that a step prints is passed on, masked, or counted in a line that says what is
// missing and why; and whatever a step prints, the memory that its log takes is bounded.
package livelog
