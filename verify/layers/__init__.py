"""Say how far each module of a candidate is from the reference's: shown in every report, held to no bound."""
