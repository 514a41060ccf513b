//! Needles: the known one, and made-up ones about places and people that are in no text.

/// A sentence that is hidden, and how it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The sentence.
    pub needle: String,
    /// The same question in different words; one is asked.
    pub questions: Vec<String>,
    /// What an answer must contain, whatever its case: words that neither the questions nor the
    /// haystack suggest. The rest may take any form ("eating a sandwich and sitting in ...").
    pub answer: String,
}

const FACTS: [(&str, [&str; 2], &str); 12] = [
    (
        "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.",
        [
            "What is the best thing to do in San Francisco?",
            "According to the text, what should one do in San Francisco?",
        ],
        "Dolores Park",
    ),
    (
        "The recipe for the winter soup of Tallow Bridge calls for seven dried juniper berries.",
        [
            "What does the recipe for the winter soup of Tallow Bridge call for?",
            "Which berries go into the winter soup of Tallow Bridge?",
        ],
        "juniper",
    ),
    (
        "The clockmaker of Ebersham keeps the spare key inside a blue porcelain owl.",
        [
            "Where does the clockmaker of Ebersham keep the spare key?",
            "What is the spare key of the clockmaker of Ebersham hidden in?",
        ],
        "porcelain owl",
    ),
    (
        "The night train to Karsavik leaves from the platform behind the cinnamon warehouse.",
        [
            "Where does the night train to Karsavik leave from?",
            "Behind which building is the platform of the night train to Karsavik?",
        ],
        "cinnamon warehouse",
    ),
    (
        "The first prize at the Dunmarrow fair was a goat called Marzipan.",
        [
            "What was the first prize at the Dunmarrow fair?",
            "What was the goat called that one could win at the Dunmarrow fair?",
        ],
        "Marzipan",
    ),
    (
        "Aunt Philomena always waters her tomatoes with cold chamomile tea.",
        [
            "What does Aunt Philomena always water her tomatoes with?",
            "Which tea do the tomatoes of Aunt Philomena get?",
        ],
        "chamomile",
    ),
    (
        "The password of the Pelican Club is spoken backwards on rainy Thursdays.",
        [
            "When is the password of the Pelican Club spoken backwards?",
            "On which days do members of the Pelican Club say the password backwards?",
        ],
        "rainy Thursdays",
    ),
    (
        "The quietest place in the town of Oxmoor is the attic of the button museum.",
        [
            "What is the quietest place in the town of Oxmoor?",
            "Where in the town of Oxmoor is it quietest?",
        ],
        "button museum",
    ),
    (
        "Captain Ruzicka learned to play the bassoon from a retired beekeeper.",
        [
            "Who taught Captain Ruzicka to play the bassoon?",
            "From whom did Captain Ruzicka learn to play the bassoon?",
        ],
        "beekeeper",
    ),
    (
        "The statue in the market square of Lindhaven is made of melted church bells.",
        [
            "What is the statue in the market square of Lindhaven made of?",
            "What was melted for the statue in the market square of Lindhaven?",
        ],
        "church bells",
    ),
    (
        "The best remedy against hiccups in Quillport is a spoonful of pickled walnuts.",
        [
            "What is the best remedy against hiccups in Quillport?",
            "What do people in Quillport eat against hiccups?",
        ],
        "pickled walnuts",
    ),
    (
        "The oldest ferry in the harbour of Mossgate is named after a one-eyed parrot.",
        [
            "What is the oldest ferry in the harbour of Mossgate named after?",
            "Which animal gave the oldest ferry in the harbour of Mossgate its name?",
        ],
        "one-eyed parrot",
    ),
];

/// All of them, the known one first.
pub(super) fn all() -> Vec<Fact> {
    let fact = |(needle, questions, answer): (&str, [&str; 2], &str)| Fact {
        needle: needle.into(),
        questions: questions.map(str::to_owned).to_vec(),
        answer: answer.into(),
    };
    FACTS.map(fact).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_needle_has_an_answer() {
        let all = all();
        for (n, fact) in all.iter().enumerate() {
            for (m, other) in all.iter().enumerate() {
                assert_eq!(other.needle.contains(&fact.answer), n == m, "{fact:?}");
                let asked = other.questions.concat().to_lowercase();
                assert!(!asked.contains(&fact.answer.to_lowercase()), "{fact:?}");
            }
        }
    }
}
