"""Arrays kept on disk: replayed faces, decoded faces, teacher embeddings."""
