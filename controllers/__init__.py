"""Who proposes: LSTM-PPO, evolution, random; the Gymnasium environment."""
