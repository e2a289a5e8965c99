"""What a job is: specs, states, progress, reports, validation. Pure data; nothing here does IO."""
