"""How a model trained with tags, or any generator, is measured: from texts, scores and answers alone.

rates, seeds        failures of samples with and without control, paired by prompt; several training seeds
maximum             the expected worst of 25 draws, and the chance that one of them fails
red_team            an adaptive attack: prompts proposed in rounds, the worst of them shown to the attacker again
few_shot, evolving  two attackers: any language model that is shown examples; prompts recombined by sentence
attack_rates        failure rates under attack, by round, and the ratio of two models attacked alike
diversity           distinct n-grams, their entropy, self-BLEU, lengths, on equal numbers of samples
likelihood          nats per token and KL, charged for text alone
detection           the tag's probability as a warning before a sentence is written
results, frontier   one record for an arm; tables, and the plot of failures against what control costs

No torch here: models come in through the seams of :mod:`fivenines.models.protocols`.
"""
