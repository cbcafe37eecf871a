/* SPDX-License-Identifier: ISC */
/* Names for apps that got none: an adjective, a noun of the countryside, a number. */
#include <stdio.h>

#include "platform/model_inside.h"

static const char *const adjectives[] = {
	"amber",  "ancient", "autumn", "blooming", "bold",   "brave",  "bright",  "brisk",  "calm",
	"clear",  "cool",    "crisp",  "curious",  "dawn",   "deep",   "dewy",	  "eager",  "early",
	"easy",	  "fair",    "fast",   "fern",	   "fresh",  "gentle", "glad",	  "golden", "grand",
	"green",  "happy",   "hidden", "high",	   "hollow", "honest", "keen",	  "kind",   "late",
	"light",  "little",  "lively", "long",	   "lucky",  "mellow", "mild",	  "misty",  "mossy",
	"nimble", "noble",   "north",  "old",	   "open",   "pale",   "patient", "plain",  "proud",
	"quick",  "quiet",   "rapid",  "ready",	   "rosy",   "round",  "rustic",  "shady",  "sharp",
	"shy",	  "silent",  "silver", "simple",   "sleepy", "slow",   "small",	  "smooth", "snowy",
	"soft",	  "spring",  "steady", "still",	   "strong", "summer", "sunny",	  "sweet",  "swift",
	"tall",	  "tidy",    "timber", "upper",	   "vivid",  "warm",   "wild",	  "winter", "wise",
	"young"};
static const char *const nouns[] = {
	"acorn",   "alder",   "apple",	 "aspen",  "badger",  "bank",  "barley",  "barn",   "bay",   "beech",
	"bell",	   "birch",   "bramble", "bridge", "brook",   "calf",  "cedar",	  "clover", "cove",  "cow",
	"creek",   "crow",    "daisy",	 "dale",   "deer",    "dune",  "elm",	  "falcon", "farm",  "field",
	"finch",   "fjord",   "ford",	 "forest", "fox",     "gate",  "glade",	  "goat",   "goose", "grove",
	"harbor",  "hare",    "hazel",	 "heath",  "hedge",   "heron", "hill",	  "hollow", "ivy",   "lake",
	"lane",	   "lark",    "leaf",	 "linden", "lynx",    "maple", "marsh",	  "meadow", "mill",  "moor",
	"oak",	   "orchard", "otter",	 "owl",	   "pasture", "path",  "peak",	  "pine",   "plain", "pond",
	"poplar",  "reed",    "ridge",	 "river",  "robin",   "rook",  "rose",	  "rowan",  "sage",  "shore",
	"sparrow", "spruce",  "stone",	 "stork",  "stream",  "swan",  "thistle", "thorn",  "thyme", "trail",
	"vale",	   "valley",  "well",	 "willow", "wood",    "wren"};

void make_app_name(char out[APP_NAME_MAX])
{
	uint32_t r[3];

	random_bytes(r, sizeof(r));
	snprintf(out, APP_NAME_MAX, "%s-%s-%u", adjectives[r[0] % (sizeof(adjectives) / sizeof(*adjectives))],
		 nouns[r[1] % (sizeof(nouns) / sizeof(*nouns))], 1000 + r[2] % 99000);
}
