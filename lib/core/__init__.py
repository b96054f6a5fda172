"""The ground floor: a run's folder and files, processes, the encoder, measures, the style of pictures and pages."""
